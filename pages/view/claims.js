// @ts-check
// Claims as a table: each sound that a trace names, what became of it, and why, in words. Rows are buttons.

import { h, interval } from "../../analysis/view/dom.js";
import { countsOf, fateOf, isOpinion, modeName, soundsOf } from "./words.js";

/** @param {any} arm @param {any} doc @param {{ mark?: () => void, judge?: () => void } | null} offers what a visitor may do where nothing is known */
export function claimsBlock(arm, doc, offers) {
  const title = h("h4", {}, "Claims about the sound");
  const { cafe } = arm;
  if (!cafe) {
    if (doc.status === "running") return null;
    if (doc.truth)
      return h("div", { class: "mp-claims" }, title, h("p", { class: "mp-note" }, "This trace was not checked."));
    return h(
      "div",
      { class: "mp-claims" },
      title,
      h("p", { class: "mp-note" }, "We do not know what is in this clip, so claims are not checked. "),
      offers ? ways() : null,
    );
  }
  if (cafe.unscored)
    return h("div", { class: "mp-claims" }, title, h("p", { class: "mp-note" }, `Not scored: ${cafe.unscored}`));
  const counts = countsOf(cafe) || [];
  const rows = cafe.claims.map((/** @type {any} */ claim, /** @type {number} */ index) => {
    const fate = fateOf(cafe, claim.fate);
    const event = claim.event === null ? null : soundsOf(doc)[claim.event];
    const timed = event && event.onset_s !== null && event.offset_s !== null;
    return h(
      "tr",
      { class: `mp-claim mp-${claim.fate}`, "data-claim-row": index },
      h(
        "th",
        { scope: "row" },
        h(
          "button",
          { type: "button", class: "mp-claim-button", "data-claim": index, "aria-pressed": "false", dir: "auto" },
          claim.label,
        ),
      ),
      h("td", { class: "mp-fate" }, h("span", { "aria-hidden": "true" }, `${fate.sign} `), fate.name),
      h(
        "td",
        {},
        timed
          ? interval(event.onset_s, event.offset_s)
          : claim.event === null
            ? isOpinion(cafe)
              ? "not found"
              : "not in the clip"
            : "–",
      ),
      h("td", { class: "mp-why", dir: "auto" }, claim.why),
    );
  });
  return h(
    "div",
    { class: "mp-claims" },
    h(
      "div",
      { class: "mp-counts" },
      title,
      counts
        .filter(({ fate, count, of }) => count > 0 || (fate === "matched" && of > 0))
        .map(({ fate, count, text }) =>
          h("span", { class: `mp-chip mp-${count ? fate : "none"}`, title: fateOf(cafe, fate).meaning }, text),
        ),
    ),
    rows.length
      ? h(
          "div",
          {
            class: "mp-table-box",
            tabindex: 0,
            role: "region",
            "aria-label": `Claims of ${modeName(arm)}, ${arm.name}`,
          },
          h(
            "table",
            {},
            h(
              "thead",
              {},
              h(
                "tr",
                {},
                ["Sound", "Verdict", isOpinion(cafe) ? "Tagger has it at" : "In the clip at", "Why"].map((name) =>
                  h("th", { scope: "col" }, name),
                ),
              ),
            ),
            h("tbody", {}, rows),
          ),
        )
      : h("p", { class: "mp-note" }, "It claims nothing about the sound."),
    h(
      "p",
      { class: "mp-note" },
      `${cafe.source.replace("Judged by rules, without a model, against", "Checked by fixed rules against")} Acc_per ${shareOf(cafe.metrics.acc_per)} · Err_per ${shareOf(cafe.metrics.err_per)} · Err_use ${shareOf(cafe.metrics.err_use)} · Err_omit ${shareOf(cafe.metrics.err_omit)}`,
    ),
  );
}

/** Where claims are checked against a machine's opinion: how good it is, and what else can be done. @param {any} doc @param {boolean} editable */
export function opinionNote(doc, editable) {
  if (!doc.opinion || !doc.arms.some((/** @type {any} */ arm) => isOpinion(arm.cafe))) return null;
  return h(
    "div",
    { class: "mp-opinion-note" },
    h("p", {}, h("b", {}, "Claims are checked against a machine’s opinion. "), doc.opinion.note),
    editable ? ways() : null,
  );
}
const ways = () =>
  h(
    "p",
    { class: "mp-actions" },
    h("button", { type: "button", class: "mp-button", "data-do": "mark-sounds" }, "Mark the sounds"),
    h("button", { type: "button", class: "mp-button", "data-do": "use-judge" }, "Use a judge"),
  );
const shareOf = (/** @type {number | null} */ value) =>
  value === null || value === undefined ? "–" : `${(100 * value).toFixed(0)} %`;
