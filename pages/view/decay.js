// @ts-check
// Attention to the sound along the trace, one line an arm, with shared axes, so that a fall can be seen at a glance.

import { h, svg } from "../../analysis/view/dom.js";
import { courseText, shareText } from "./words.js";

const HEIGHT = 40;

/**
 * The line of one arm: its attention, or the probability of its tokens where a server gives that and no attention. `until(token)` draws it up to a token; `mark(from, to)` shades tokens.
 * @param {any} arm @param {string} mode raw or length @param {number} longest tokens of the longest arm @param {number} top value at the upper edge @param {string} who
 */
export function decayLine(arm, mode, longest, top, who) {
  const { attention, confidence } = arm;
  if (attention && attention.tokens > 1)
    return lineOf(
      attention.course[mode],
      attention.passages,
      longest,
      top,
      `${who}: ${courseText(attention, mode)}`,
      shareText(top, mode),
    );
  if (!attention && confidence && confidence.course.length > 1)
    return lineOf(confidence.course, [], longest, 1, `${who}: ${confidence.summary}`, "100%");
  return null;
}

/** Tokens of an arm's line. @param {any} arm */
export const lineLength = (arm) =>
  arm.attention ? arm.attention.tokens : arm.confidence ? arm.confidence.course.length : 0;

/** @param {number[]} course @param {any[]} passages @param {number} longest @param {number} top @param {string} label @param {string} edge */
function lineOf(course, passages, longest, top, label, edge) {
  const x = (/** @type {number} */ t) => (100 * (t + 0.5)) / Math.max(1, longest);
  const y = (/** @type {number} */ value) => HEIGHT - 2 - ((HEIGHT - 4) * value) / Math.max(top, 1e-9);
  const points = course
    .map((/** @type {number} */ value, /** @type {number} */ t) => `${x(t).toFixed(2)},${y(value).toFixed(2)}`)
    .join(" ");
  const shade = svg("rect", { class: "mp-decay-mark", x: 0, y: 0, width: 0, height: HEIGHT });
  const veil = svg("rect", { class: "mp-decay-veil", x: 0, y: 0, width: 0, height: HEIGHT });
  const parts = passages.map((/** @type {any} */ passage) =>
    svg("rect", {
      class: `mp-kind-${passage.kind}`,
      x: (100 * passage.tokens[0]) / longest,
      y: HEIGHT - 2,
      width: (100 * (passage.tokens[1] - passage.tokens[0])) / longest,
      height: 2,
    }),
  );
  const drawing = svg(
    "svg",
    {
      viewBox: `0 0 100 ${HEIGHT}`,
      preserveAspectRatio: "none",
      role: "img",
      "aria-label": label,
    },
    shade,
    ...parts,
    svg("polygon", {
      class: "mp-decay-area",
      points: `${x(0)},${HEIGHT - 2} ${points} ${x(course.length - 1)},${HEIGHT - 2}`,
    }),
    svg("polyline", { class: "mp-decay-line", points }),
    veil,
  );
  const span = (/** @type {any} */ rect, /** @type {number} */ from, /** @type {number} */ to) => {
    rect.setAttribute("x", (100 * from) / longest);
    rect.setAttribute("width", Math.max(0, (100 * (to - from)) / longest));
  };
  return {
    node: h("div", { class: "mp-decay" }, h("span", { class: "mp-decay-top", "aria-hidden": "true" }, edge), drawing),
    /** @param {number | null} token */
    until(token) {
      if (token === null) span(veil, 0, 0);
      else span(veil, token, longest);
    },
    /** @param {number} from @param {number} to */
    mark(from, to) {
      span(shade, from, to);
    },
  };
}
