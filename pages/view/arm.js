// One arm: who answers, the answer and its numbers, the trace, the picture, the events.

function resultBlock(arm, view) {
  const verdict = arm.correct === true ? h("span", { class: "mp-chip mp-good" }, "✓ correct")
    : arm.correct === false ? h("span", { class: "mp-chip mp-bad" }, "✗ wrong")
      : h("span", { class: "mp-chip", title: arm.unscored || "" }, arm.unscored ? "not scored" : "…");
  const answer = arm.answer ? h("strong", { dir: "auto" }, shorten(arm.answer, 300)) : h("strong", { class: "mp-none" }, view.running ? "…" : "no answer");
  const ended = arm.finish === "length" ? "cut at the limit" : arm.finish === "cancelled" ? "stopped" : null;
  const numbers = [
    ["Tokens", arm.token_count ? String(arm.token_count) : "–", ended],
    ["Seconds", Number.isFinite(arm.seconds) ? arm.seconds.toFixed(1) : "–", null],
    ["On audio", percent(arm.attention_ratio), Number.isFinite(arm.attention_corrected) ? `${times(arm.attention_corrected)} an even share` : null],
  ];
  return h("div", { class: "mp-result" },
    h("p", { class: "mp-answer" }, h("span", {}, "Answer"), answer, !view.running || arm.stage === "done" ? verdict : null),
    !view.running && arm.correct === null && arm.unscored ? h("p", { class: "mp-note" }, arm.unscored) : null,
    h("dl", {}, numbers.map(([term, value, extra]) => h("div", {}, h("dt", {}, term), h("dd", {}, value, extra ? h("small", {}, ` ${extra}`) : null)))),
    arm.error ? h("p", { class: "mp-warning" }, arm.error) : null,
    (arm.warnings || []).map((warning) => h("p", { class: "mp-warning" }, warning)));
}

function whoText(arm) {
  const asked = { direct: "for the answer only", cot: "to reason freely", mpar2: "to perceive, reason, review" }[arm.mode] || arm.mode;
  const made = arm.model === arm.name && !arm.adapter ? "" : `${arm.model}${arm.adapter ? ` + ${arm.adapter}` : ""} · `;
  return `${made}asked ${asked}`;
}

function armBlock(arm, index, view, slots) {
  const letter = "AB"[index] || String(index + 1);
  const slot = { trace: h("div", { class: "mp-trace-slot", "data-part": "trace" }, traceBlock(arm, view)), result: h("div", {}, resultBlock(arm, view)),
    picture: h("div", { class: "mp-picture-slot" }), selection: h("div", { class: "mp-selection", "aria-live": "polite" }) };
  slots.arms[index] = slot;
  return h("section", { class: "mp-arm", "data-arm": index, "aria-label": `Arm ${letter}: ${arm.name}` },
    h("header", {}, h("span", { class: "mp-letter", "aria-hidden": "true" }, letter), h("div", {}, h("h3", { dir: "auto" }, arm.name),
      h("p", { class: "mp-note" }, whoText(arm)))),
    slot.result, slot.trace,
    h("div", { class: "mp-look", "data-part": "look" }, h("h4", {}, "Where it listened"), slot.selection, slot.picture),
    h("div", { "data-part": "cafe" }, cafeBlock(arm, view.doc)));
}
