// @ts-check
// What belongs together: from a chosen word, passage, claim or true sound to all that is lit, and what is said of it.

import { charactersOf, interval, percent, shorten } from "../../analysis/view/dom.js";
import { LETTERS, fateOf, shareText, soundsOf } from "./words.js";

/** @typedef {{ arm: number, word?: number, passage?: number, claim?: number, mention?: number, event?: number }} Choice */
/**
 * @typedef {Object} Lit what a choice lights
 * @property {{ words: [number, number] | null, passages: [number, number] | null, word?: number, passage?: number, mentions: number[], claims: number[] }[]} arms
 * @property {number[]} events true sounds
 * @property {[number, number][]} bands times
 * @property {string} title what was chosen
 * @property {string} text what is said of it
 * @property {[number, number, number][]} heard times that it attended to, with their share
 */

const overlaps = (/** @type {number[]} */ a, /** @type {number[]} */ b) => a[0] < b[1] && a[1] > b[0];

/** First and last of the rows of which some token lies in [from, to). @param {number[][]} spans @param {number} from @param {number} to @returns {[number, number] | null} */
function rowsOf(spans, from, to) {
  const inside = spans.map((span, index) => (overlaps(span, [from, to]) ? index : -1)).filter((index) => index >= 0);
  return inside.length ? [inside[0], inside[inside.length - 1] + 1] : null;
}

/** The words of an arm between two characters. @param {any} arm @param {number} start @param {number} stop @returns {[number, number] | null} */
export const wordsWithin = (arm, start, stop) =>
  rowsOf(
    arm.words.map((/** @type {number[]} */ w) => [w[0], w[1]]),
    start,
    stop,
  );

/** @param {any} arm @param {number} word */
export const wordText = (arm, word) => charactersOf(arm.text).slice(arm.words[word][0], arm.words[word][1]).join("");

/**
 * @param {any} doc @param {Choice} choice @param {string} mode raw or length
 * @returns {Lit}
 */
export function litBy(doc, choice, mode) {
  const lit = /** @type {Lit} */ ({
    arms: doc.arms.map(() => ({ words: null, passages: null, mentions: [], claims: [] })),
    events: [],
    bands: [],
    title: "",
    text: "",
    heard: [],
  });
  const arm = doc.arms[choice.arm];
  const attention = arm && arm.attention;
  const mine = lit.arms[choice.arm];
  const letter = doc.arms.length > 1 ? `${LETTERS[choice.arm]}: ` : "";

  if (choice.event !== undefined) {
    // a true sound: every claim about it, in every arm
    lightEvent(doc, choice.event, lit);
    const event = soundsOf(doc)[choice.event];
    lit.title = event.label;
    lit.text = `${timed(event) ? interval(event.onset_s, event.offset_s) : "at an unknown time"}. ${doc.arms
      .map((/** @type {any} */ one, /** @type {number} */ i) => {
        const claim =
          one.cafe && one.cafe.claims ? one.cafe.claims.find((/** @type {any} */ c) => c.event === choice.event) : null;
        return claim ? `${LETTERS[i]}: ${fateOf(one.cafe, claim.fate).name}. ` : "";
      })
      .join("")}`;
    return lit;
  }
  if (choice.claim !== undefined) {
    const claim = arm.cafe.claims[choice.claim];
    mine.claims = [choice.claim];
    mine.mentions = claim.mentions;
    if (claim.event !== null) lightEvent(doc, claim.event, lit, choice.arm);
    const first = arm.cafe.mentions[claim.mentions[0]];
    if (first) lightWords(arm, mine, wordsWithin(arm, first.start, first.stop), attention, lit);
    lit.title = `${letter}${claim.label}`;
    lit.text = `${fateOf(arm.cafe, claim.fate).name}. ${claim.why}`;
    return lit;
  }
  if (choice.passage !== undefined && attention) {
    const passage = attention.passages[choice.passage];
    mine.passage = choice.passage;
    mine.passages = [choice.passage, choice.passage + 1];
    mine.words = rowsOf(
      arm.words.map((/** @type {number[]} */ w) => [w[2], w[3]]),
      passage.tokens[0],
      passage.tokens[1],
    );
    mine.mentions = mentionsWithin(arm, passage.chars[0], passage.chars[1]);
    lit.heard = attention.peaks.passages[choice.passage] || [];
    lit.title = `${letter}${passage.name}`;
    const share = attention.views.length ? attention.views[0].shares[mode][choice.passage] : null;
    lit.text =
      share === null
        ? ""
        : mode === "raw"
          ? `${percent(share)} of its attention on the sound`
          : `${shareText(share, mode)} an even spread`;
    return lit;
  }
  if (choice.word !== undefined && arm.words[choice.word]) {
    const span = arm.words[choice.word];
    const mention =
      choice.mention ??
      (arm.cafe && arm.cafe.mentions
        ? arm.cafe.mentions.findIndex((/** @type {any} */ m) => overlaps([m.start, m.stop], span))
        : -1);
    lightWords(arm, mine, [choice.word, choice.word + 1], attention, lit);
    lit.title = `${letter}“${shorten(wordText(arm, choice.word), 40)}”`;
    if (mention >= 0 && arm.cafe) {
      const said = arm.cafe.mentions[mention];
      mine.mentions = [mention];
      mine.claims = arm.cafe.claims
        .map((/** @type {any} */ c, /** @type {number} */ i) => (c.mentions.includes(mention) ? i : -1))
        .filter((/** @type {number} */ i) => i >= 0);
      said.events.forEach((/** @type {number} */ event) => lightEvent(doc, event, lit, choice.arm));
      lit.text = said.why;
    }
  }
  return lit;
}

const timed = (/** @type {any} */ event) => event && event.onset_s !== null && event.offset_s !== null;

/** @param {any} doc @param {number} event @param {Lit} lit @param {number} [only] */
function lightEvent(doc, event, lit, only) {
  const truth = soundsOf(doc)[event];
  if (!lit.events.includes(event)) lit.events.push(event);
  if (timed(truth)) lit.bands.push([truth.onset_s, truth.offset_s]);
  if (only !== undefined) return;
  doc.arms.forEach((/** @type {any} */ arm, /** @type {number} */ index) => {
    if (!arm.cafe || !arm.cafe.claims) return;
    arm.cafe.claims.forEach((/** @type {any} */ claim, /** @type {number} */ i) => {
      if (claim.event === event) {
        lit.arms[index].claims.push(i);
        lit.arms[index].mentions.push(...claim.mentions);
      }
    });
    const first = arm.cafe.mentions[lit.arms[index].mentions[0]];
    if (first) {
      const words = wordsWithin(arm, first.start, first.stop);
      if (words) lit.arms[index].word = words[0];
      lit.arms[index].words = words;
    }
  });
}

/** @param {any} arm @param {any} mine @param {[number, number] | null} words @param {any} attention @param {Lit} lit */
function lightWords(arm, mine, words, attention, lit) {
  mine.words = words;
  if (!words) return;
  mine.word = words[0];
  const [from, to] = [arm.words[words[0]][2], arm.words[words[1] - 1][3]];
  if (!attention) return;
  mine.passages = rowsOf(
    attention.passages.map((/** @type {any} */ p) => p.tokens),
    from,
    to,
  );
  lit.heard = attention.peaks.words[words[0]] || [];
}

/** @param {any} arm @param {number} start @param {number} stop */
function mentionsWithin(arm, start, stop) {
  if (!arm.cafe || !arm.cafe.mentions) return [];
  return arm.cafe.mentions
    .map((/** @type {any} */ m, /** @type {number} */ i) => (m.start >= start && m.stop <= stop ? i : -1))
    .filter((/** @type {number} */ i) => i >= 0);
}
