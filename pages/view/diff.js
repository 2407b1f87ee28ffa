// @ts-check
// What two traces have in common, word by word: the longest common subsequence of their words.

import { h } from "../../analysis/view/dom.js";
import { LETTERS } from "./words.js";

const LONGEST = 700; // words of a trace; more is cut

/** @param {string} text */
const wordsOf = (text) => (text.replace(/<\/?[a-z_]+>/g, " ").match(/\S+/g) || []).slice(0, LONGEST);

/**
 * Runs of words: both, only the first, only the second.
 * @param {string} first @param {string} second
 * @returns {{ kind: "both" | "first" | "second", words: string[] }[]}
 */
export function wordDiff(first, second) {
  const [a, b] = [wordsOf(first), wordsOf(second)];
  const table = Array.from({ length: a.length + 1 }, () => new Uint16Array(b.length + 1));
  for (let i = a.length - 1; i >= 0; i -= 1)
    for (let j = b.length - 1; j >= 0; j -= 1)
      table[i][j] = a[i] === b[j] ? table[i + 1][j + 1] + 1 : Math.max(table[i + 1][j], table[i][j + 1]);
  /** @type {{ kind: "both" | "first" | "second", words: string[] }[]} */
  const runs = [];
  const add = (/** @type {"both" | "first" | "second"} */ kind, /** @type {string} */ word) => {
    const last = runs[runs.length - 1];
    if (last && last.kind === kind) last.words.push(word);
    else runs.push({ kind, words: [word] });
  };
  let [i, j] = [0, 0];
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      add("both", a[i]);
      i += 1;
      j += 1;
    } else if (j >= b.length || (i < a.length && table[i + 1][j] >= table[i][j + 1])) {
      add("first", a[i]);
      i += 1;
    } else {
      add("second", b[j]);
      j += 1;
    }
  }
  return runs;
}

/** A fold with the word diff of two arms that can be chosen. @param {any} doc */
export function diffBlock(doc) {
  if (doc.arms.length < 2) return null;
  const body = h("p", { class: "mp-diff", dir: "auto" });
  const menu = (/** @type {string} */ label, /** @type {number} */ chosen) =>
    h(
      "select",
      { "aria-label": label, onchange: () => draw() },
      doc.arms.map((/** @type {any} */ _, /** @type {number} */ i) =>
        h("option", { value: i, selected: i === chosen }, LETTERS[i]),
      ),
    );
  const [left, right] = [menu("First arm", Math.max(0, doc.arms.length - 2)), menu("Second arm", doc.arms.length - 1)];
  function draw() {
    const runs = wordDiff(doc.arms[Number(left.value)].text, doc.arms[Number(right.value)].text);
    body.replaceChildren(
      ...runs.flatMap(({ kind, words }) => {
        const text = words.join(" ");
        return [
          kind === "both" ? document.createTextNode(text) : h(kind === "first" ? "del" : "ins", {}, text),
          document.createTextNode(" "),
        ];
      }),
    );
  }
  const fold = h(
    "details",
    { class: "mp-fold" },
    h("summary", {}, "Word by word: what two traces share"),
    h("p", { class: "mp-actions" }, left, h("del", {}, "only here"), right, h("ins", {}, "only here")),
    body,
  );
  fold.addEventListener("toggle", () => {
    if (fold.open && !body.childNodes.length) draw();
  });
  return fold;
}
