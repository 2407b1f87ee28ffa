// @ts-check
// The result at a glance: a card an arm with its answer, its claims and its decay, and the differences from the first.

import { h, plural, signed, shorten } from "../../analysis/view/dom.js";
import { decayLine, lineLength } from "./decay.js";
import { LETTERS, countsOf, courseText, ownColour, verdictOf } from "./words.js";

/**
 * @param {any} doc @param {{ mode: string, running: boolean, names: (index: number) => { title: string, who: string }, colours: number[], veiled: boolean }} view
 * @returns {{ node: any, lines: any[] }}
 */
export function summaryBlock(doc, view) {
  const longest = Math.max(1, ...doc.arms.map(lineLength));
  const top = doc.scales ? doc.scales.line[view.mode] : 0;
  /** @type {any[]} */
  const lines = [];
  const cards = doc.arms.map((/** @type {any} */ arm, /** @type {number} */ index) => {
    const { title, who } = view.names(index);
    const verdict = view.veiled ? null : verdictOf(arm, doc.question);
    const counts = view.veiled ? null : countsOf(arm.cafe);
    const line = view.running ? null : decayLine(arm, view.mode, longest, top, title);
    lines.push(line);
    const ended =
      arm.finish === "length"
        ? `, stopped at the ${doc.decoding.max_new_tokens}-token limit`
        : arm.finish === "cancelled"
          ? ", stopped"
          : "";
    return h(
      "section",
      { class: "mp-card-arm", style: ownColour(view.colours[index]), "data-arm": index, "aria-label": title },
      h(
        "header",
        {},
        h("span", { class: "mp-letter", "aria-hidden": "true" }, LETTERS[index]),
        h("h3", { dir: "auto" }, title),
        h("small", { dir: "auto" }, who),
      ),
      h(
        "p",
        { class: "mp-answer" },
        arm.answer
          ? h("strong", { dir: "auto" }, shorten(arm.answer, 120))
          : h("strong", { class: "mp-none" }, view.running ? "…" : "no answer"),
        verdict ? h("span", { class: `mp-chip mp-${verdict.kind}`, title: verdict.why || "" }, verdict.text) : null,
      ),
      h(
        "p",
        { class: "mp-claim-line" },
        counts
          ? claimLine(counts, arm.mode)
          : view.running
            ? ""
            : view.veiled
              ? "verdict and claims are hidden until you vote"
              : arm.cafe && arm.cafe.unscored
                ? "claims not scored"
                : "claims not checked",
        counts && arm.against && arm.against.right_claims
          ? h(
              "b",
              { class: arm.against.right_claims > 0 ? "mp-up" : "mp-down" },
              ` ${signed(arm.against.right_claims)} against ${LETTERS[arm.against.base]}`,
            )
          : null,
      ),
      line ? line.node : h("div", { class: "mp-decay mp-decay-empty" }),
      h(
        "p",
        { class: "mp-small" },
        view.running && arm.stage !== "done"
          ? plural(arm.token_count, "token")
          : `${arm.attention ? `${courseText(arm.attention, view.mode)} · ` : arm.confidence ? `${arm.confidence.summary} · ` : ""}${plural(arm.token_count, "token")}${ended}${Number.isFinite(arm.seconds) ? `, ${arm.seconds.toFixed(1)} s` : ""}`,
      ),
      arm.error ? h("p", { class: "mp-warning" }, arm.error) : null,
      arm.warnings.map((/** @type {string} */ warning) => h("p", { class: "mp-warning" }, warning)),
    );
  });
  return { node: h("div", { class: `mp-summary mp-of-${doc.arms.length}` }, cards), lines };
}

/** @param {{ fate: string, count: number, of: number, text: string }[]} counts @param {string} mode */
function claimLine(counts, mode) {
  const [right, invented, misused, missed] = counts;
  const rest = [invented, misused, missed].filter(({ count }) => count > 0).map(({ text }) => text);
  if (!right.of && mode === "direct") return "answers only: no claims to check";
  if (!right.of) return `no claim about the sound${missed.count ? `, ${missed.text}` : ""}`;
  return [h("b", {}, right.text), rest.length ? ` · ${rest.join(" · ")}` : ""];
}

/** The comparison in one sentence, for its head and for screen readers. @param {any} doc @param {(index: number) => string} name */
export function resultSentence(doc, name) {
  return doc.arms
    .map((/** @type {any} */ arm, /** @type {number} */ index) => {
      const verdict = verdictOf(arm, doc.question);
      const counts = countsOf(arm.cafe);
      return `${name(index)}: ${arm.answer ? shorten(arm.answer, 60) : "no answer"}${verdict ? ` (${verdict.text.replace(/[✓✗] /, "")})` : ""}${counts && counts[0].of ? `, ${counts[0].text}` : ""}`;
    })
    .join("; ");
}
