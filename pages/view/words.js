// @ts-check
// What is shown about arms and their numbers, in words: names of modes, letters, verdicts, the counts of claims.

import { percent, plural, times } from "../../analysis/view/dom.js";

export const LETTERS = ["A", "B", "C", "D"];
export const MODES = {
  direct: { name: "Answer at once", text: "asked for the answer only" },
  cot: { name: "Reason freely", text: "asked to think aloud, then answer" },
  mpar2: { name: "MPAR²", text: "told to list what it hears, reason in steps, check" },
};
export const FATES = {
  matched: { name: "right", sign: "✓", meaning: "sounds it names that are really there" },
  misused: { name: "wrong use", sign: "≠", meaning: "real sounds at a wrong time, in a wrong order or count" },
  hallucinated: { name: "made up", sign: "✗", meaning: "sounds it names that are not in the clip" },
  missed: { name: "missed", sign: "○", meaning: "sounds that no claim of it names" },
  neutral: { name: "no claim", sign: "·", meaning: "only asked about or denied" },
};

/** The same where what a machine found stands in for what is known: it is never called true. */
export const OPINIONS = {
  matched: { name: "agrees", sign: "✓", meaning: "sounds it names that the tagger finds too" },
  misused: {
    name: "differs",
    sign: "≠",
    meaning: "sounds that the tagger finds at another time, in another order or count",
  },
  hallucinated: { name: "not found", sign: "✗", meaning: "sounds it names that the tagger does not find" },
  missed: { name: "not named", sign: "○", meaning: "sounds that the tagger finds and no claim of it names" },
  neutral: { name: "no claim", sign: "·", meaning: "only asked about or denied, or the tagger is unsure of them" },
};

/** Whether claims were checked against a machine's opinion. @param {any} cafe */
export const isOpinion = (cafe) => Boolean(cafe && cafe.truth_origin === "tagger");
/** What became of a claim or mention, in words. @param {any} cafe @param {string} kind */
export function fateOf(cafe, kind) {
  const names = isOpinion(cafe) ? OPINIONS : FATES;
  return names[/** @type {keyof typeof FATES} */ (kind)] || names.neutral;
}

/** The sounds that claims are counted against: the known ones, else what a tagger found; none where a judge listed its own. @param {any} doc @returns {any[]} */
export function soundsOf(doc) {
  if (doc.truth && doc.truth.events) return doc.truth.events;
  const judged = doc.arms.filter((/** @type {any} */ arm) => arm.cafe && arm.cafe.mentions);
  return doc.opinion && judged.every((/** @type {any} */ arm) => isOpinion(arm.cafe)) ? doc.opinion.events : [];
}

const USUAL = { cot: 0, mpar2: 2, direct: 3 };

/** Places of the arms in the palette of all figures: a mode has the same colour everywhere, a second arm of it the next free one. @param {any[]} arms */
export function coloursOf(arms) {
  /** @type {number[]} */
  const taken = [];
  for (const { mode } of arms) {
    const usual = USUAL[/** @type {keyof typeof USUAL} */ (mode)];
    taken.push(
      usual !== undefined && !taken.includes(usual)
        ? usual
        : ([0, 1, 2, 3, 4, 5].find((place) => !taken.includes(place) && !Object.values(USUAL).includes(place)) ?? 5),
    );
  }
  return taken;
}
/** The colour of an arm as a style. @param {number} place */
export const ownColour = (place) => ({ "--mp-own": `var(--mp-arm-${place % 6})` });

/** @param {any} arm */
export const modeName = (arm) => (MODES[/** @type {keyof typeof MODES} */ (arm.mode)] || { name: arm.mode }).name;

/** Who answers, in one line. @param {any} arm */
export function whoText(arm) {
  const made = arm.model === arm.name && !arm.adapter ? "" : `${arm.model}${arm.adapter ? ` + ${arm.adapter}` : ""}, `;
  return `${made}${(MODES[/** @type {keyof typeof MODES} */ (arm.mode)] || { text: arm.mode }).text}`;
}

/** How an arm answered. @param {any} arm @param {any} question */
export function verdictOf(arm, question) {
  if (arm.correct === true) return { kind: "good", text: "✓ right" };
  if (arm.correct === false) {
    if (!arm.answer) return { kind: "bad", text: "✗ no answer" };
    const listed = !question.choices.length || question.choices.includes(arm.answer);
    return { kind: "bad", text: listed ? "✗ wrong" : "✗ not one of the choices" };
  }
  if (arm.error) return { kind: "bad", text: "failed" };
  if (!arm.unscored) return null;
  return { kind: "none", text: question.answer === null ? "no known answer" : "not scored", why: arm.unscored };
}

/** The claims of an arm as counts with words: [["right", 2, "of 4"], …]. @param {any} cafe */
export function countsOf(cafe) {
  if (!cafe || !cafe.counts) return null;
  const c = cafe.counts;
  const opinion = isOpinion(cafe);
  const rest = (/** @type {string} */ fate, /** @type {number} */ count, /** @type {number} */ of) => ({
    fate,
    count,
    of,
    text: `${count} ${fateOf(cafe, fate).name}`,
  });
  return [
    {
      fate: "matched",
      count: c.matched,
      of: c.predicted,
      text: opinion
        ? `the tagger agrees with ${c.matched} of ${plural(c.predicted, "claim")}`
        : `${c.matched} of ${plural(c.predicted, "claim")} right`,
    },
    rest("hallucinated", c.hallucinated, c.predicted),
    rest("misused", c.misused, c.predicted),
    rest("missed", c.missed, c.targets),
  ];
}

/** A share on the sound as the mode shows it. @param {number} value @param {string} mode raw or length @param {number} [digits] */
export const shareText = (value, mode, digits = 0) => (mode === "raw" ? percent(value, digits) : times(value));

/** How the attention to the sound goes along a trace, as the decay line draws it. @param {any} attention @param {string} mode raw or length */
export function courseText(attention, mode) {
  if (!attention) return "attention was not recorded";
  const value = mode === "raw" ? attention.ratio : attention.corrected;
  const whole = mode === "raw" ? `${percent(value)} of its attention on the sound` : `${times(value)} an even spread`;
  if (!attention.thirds) return whole;
  const [first, last] = attention.thirds[mode];
  return `${shareText(first, mode)} → ${shareText(last, mode)} of its attention on the sound, first to last third`.replace(
    "× of its attention on the sound",
    "× an even spread",
  );
}
