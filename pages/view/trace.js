// @ts-check
// One arm's trace: passages told apart by label and colour, words that can be chosen, claims marked by what became of them.

import { charactersOf, h } from "../../analysis/view/dom.js";
import { fateOf } from "./words.js";

const KIND_NAMES = {
  perception: "Hears",
  step: "Step",
  ask: "asks",
  hear: "hears",
  infer: "concludes",
  review: "Checks",
  answer: "Answer",
  think: "Thinks",
  text: "",
};
const STAGES = {
  queued: "Waiting for its turn",
  waiting: "Waiting for the model, which works for somebody else",
  loading: "Loading the model",
  listening: "Reading the sound",
  reasoning: "Writing",
  scoring: "Checking its claims",
  done: "Done",
};

/** @param {string} stage */
export const stageName = (stage) => STAGES[/** @type {keyof typeof STAGES} */ (stage)] || stage;

/** Text between start and stop as runs that no border of a word or claim crosses. @param {any} arm @param {string[]} characters @param {number} start @param {number} stop */
function runsOf(arm, characters, start, stop) {
  const borders = new Set([start, stop]);
  const add = (/** @type {number} */ place) => {
    if (place > start && place < stop) borders.add(place);
  };
  const words = (arm.words || [])
    .map((/** @type {number[]} */ span, /** @type {number} */ index) => ({ from: span[0], to: span[1], index }))
    .filter((/** @type {any} */ w) => w.to > start && w.from < stop);
  for (const { from, to } of words) {
    add(from);
    add(to);
  }
  const mentions = (arm.cafe && arm.cafe.mentions) || [];
  for (const mention of mentions) {
    add(mention.start);
    add(mention.stop);
  }
  const sorted = Array.from(borders).sort((a, b) => a - b);
  const runs = [];
  let place = 0;
  for (let i = 0; i + 1 < sorted.length; i += 1) {
    const [from, to] = [sorted[i], sorted[i + 1]];
    while (place < words.length && words[place].to <= from) place += 1;
    const word = place < words.length && words[place].from <= from ? words[place].index : null;
    runs.push({
      text: characters.slice(from, to).join(""),
      word,
      mention: mentions.findIndex((/** @type {any} */ item) => item.start <= from && item.stop >= to),
    });
  }
  return runs;
}

/** @param {any} arm without claims where verdicts are hidden @param {string[]} characters @param {number} start @param {number} stop */
function traceText(arm, characters, start, stop) {
  /** @type {{ mention: number, nodes: any[] }[]} */
  const groups = [];
  for (const run of runsOf(arm, characters, start, stop)) {
    const node =
      run.word === null
        ? document.createTextNode(run.text)
        : h("span", { class: "mp-word", "data-word": run.word }, run.text);
    const last = groups[groups.length - 1];
    if (last && last.mention === run.mention) last.nodes.push(node);
    else groups.push({ mention: run.mention, nodes: [node] });
  }
  return groups.map(({ mention, nodes }) => {
    if (mention < 0) return nodes;
    const { kind, why } = arm.cafe.mentions[mention];
    const fate = fateOf(arm.cafe, kind);
    return h(
      "mark",
      { class: `mp-mention mp-${kind}`, "data-mention": mention, title: why },
      nodes,
      kind === "neutral" ? null : h("sup", { "aria-hidden": "true" }, fate.sign),
      h("span", { class: "mp-hidden" }, ` (${fate.name}) `),
    );
  });
}

/** @param {any} arm @param {number} index @param {string[]} characters @returns {any} */
function partBlock(arm, index, characters) {
  const part = arm.parts[index];
  const kind = part.kind in KIND_NAMES ? part.kind : "text";
  const children = arm.parts
    .map((/** @type {any} */ _, /** @type {number} */ i) => i)
    .filter((/** @type {number} */ i) => arm.parts[i].parent === index);
  const rows = arm.attention ? arm.attention.passages : [];
  const row = rows.findIndex((/** @type {any} */ p) => p.chars[0] === part.chars[0] && p.chars[1] === part.chars[1]);
  const title = `${KIND_NAMES[/** @type {keyof typeof KIND_NAMES} */ (kind)]}${kind === "step" && part.number ? ` ${part.number}` : ""}`;
  const label = !title
    ? null
    : row >= 0
      ? h(
          "button",
          {
            type: "button",
            class: "mp-part-label",
            "data-passage": row,
            "aria-pressed": "false",
            title: `Show where “${rows[row].name}” listened`,
          },
          title,
        )
      : h("span", { class: "mp-part-label" }, title);
  const sentences = rows
    .map((/** @type {any} */ p, /** @type {number} */ i) => ({ p, i }))
    .filter(
      (/** @type {any} */ item) =>
        item.p.name.startsWith("Sentence") && item.p.chars[0] >= part.chars[0] && item.p.chars[1] <= part.chars[1],
    );
  const text = (/** @type {number} */ from, /** @type {number} */ to) => {
    if (children.length || !sentences.length)
      return h(
        "div",
        { class: "mp-part-text", dir: "auto", "data-passage-text": row >= 0 ? row : null },
        traceText(arm, characters, from, to),
      );
    return h(
      "div",
      { class: "mp-part-text", dir: "auto" },
      sentences.map((/** @type {any} */ { p, i }) =>
        h("span", { "data-passage-text": i }, traceText(arm, characters, p.chars[0], p.chars[1])),
      ),
    );
  };
  const body = [];
  let place = part.chars[0];
  const loose = (/** @type {number} */ stop) => {
    if (characters.slice(place, stop).join("").trim()) body.push(text(place, stop));
  };
  for (const child of children) {
    loose(arm.parts[child].outer[0]);
    body.push(partBlock(arm, child, characters));
    place = arm.parts[child].outer[1];
  }
  if (children.length) loose(part.chars[1]);
  else body.push(text(part.chars[0], part.chars[1]));
  return h("div", { class: `mp-part mp-kind-${kind}` }, label, body);
}

/** The trace of an arm, or how far it has come. @param {any} whole @param {boolean} running @param {string} who @param {boolean} [veiled] without verdicts */
export function traceBlock(whole, running, who, veiled = false) {
  const arm = veiled ? { ...whole, cafe: null } : whole;
  const characters = charactersOf(arm.text);
  const tops = arm.parts
    .map((/** @type {any} */ part, /** @type {number} */ index) => ({ part, index }))
    .filter((/** @type {any} */ { part }) => part.parent === null || part.parent === undefined)
    .filter((/** @type {any} */ { part }) => part.kind !== "text" || part.text.trim());
  const works = running && arm.stage !== "done";
  const note = works
    ? h(
        "p",
        { class: "mp-stage-note" },
        h("span", { class: "mp-spinner", "aria-hidden": "true" }),
        arm.stage === "reasoning"
          ? `${stageName(arm.stage)} · ${arm.token_count} ${arm.token_count === 1 ? "token" : "tokens"}`
          : `${stageName(arm.stage)}…`,
      )
    : arm.text
      ? null
      : h(
          "p",
          { class: "mp-stage-note" },
          arm.error ? "No trace: this arm failed." : running ? "" : "No text was generated.",
        );
  const usable = !running && arm.words.length > 0;
  return h(
    "div",
    {
      class: "mp-trace",
      tabindex: 0,
      role: "group",
      "aria-label": `Trace of ${who}.${usable ? " Left and right arrow keys choose a word." : ""}`,
    },
    tops.map((/** @type {any} */ { index }) => partBlock(arm, index, characters)),
    note,
  );
}
