// The traces behind a point of a figure: a list of items, and what each arm said to the one that is chosen.
// Needs el() of analysis/view/exhibits.js. All of it is untrusted text and enters the page as text nodes.
//
// `value`: { title, total, items: [{ id, question, choices, answer, truth, sides: [{ arm, right, prediction, tokens,
//            counts, parts: [{ kind, name, text }], cut }] }] } or null.

function showTraces(root, value) {
  root.replaceChildren();
  if (!value) return;
  const detail = el("div", { "aria-live": "polite" });
  const buttons = value.items.map((item, index) => el("button", { type: "button", "aria-pressed": "false", onclick: () => choose(index) },
    el("span", { dir: "auto" }, item.question || item.id), el("small", { dir: "auto" }, `${verdict(item.sides[0])} · ${item.id}`)));
  function choose(index) {
    buttons.forEach((button, i) => button.setAttribute("aria-pressed", String(i === index)));
    detail.replaceChildren(itemBlock(value.items[index]));
  }
  const close = el("button", { type: "button", onclick: () => root.replaceChildren() }, "Close");
  root.append(el("section", { class: "an-card", "aria-label": "Traces behind the point", tabindex: "-1" },
    el("h3", { dir: "auto" }, value.title),
    el("p", { class: "an-note" }, value.total > value.items.length ? `${value.items.length} of ${value.total} traces, right and wrong ones in turn.` : `${value.total} ${value.total === 1 ? "trace" : "traces"}.`),
    el("div", { class: "an-actions" }, close),
    value.items.length ? el("div", { class: "an-traces" }, el("div", { class: "an-list", role: "group", "aria-label": "Items" }, buttons), detail) : null));
  if (value.items.length) choose(0);
  root.firstElementChild.scrollIntoView({ block: "start" });
  root.firstElementChild.focus({ preventScroll: true });
}

function verdict(side) {
  if (!side) return "";
  const said = side.right === null ? "not scored" : side.right ? "✓ right" : "✗ wrong";
  return [said, side.tokens === null ? null : `${side.tokens} tokens`].filter(Boolean).join(" · ");
}

function itemBlock(item) {
  const truth = item.truth.length ? el("p", { class: "an-note", dir: "auto" }, "Audible: ", item.truth.join("; ")) : null;
  return el("div", {},
    el("h3", { dir: "auto" }, item.question || item.id),
    item.choices.length ? el("p", { class: "an-note", dir: "auto" }, "Choices: ", item.choices.join(" · ")) : null,
    item.answer ? el("p", { class: "an-note", dir: "auto" }, "True answer: ", item.answer) : null,
    truth, el("p", { class: "an-note", dir: "auto" }, "Item ", item.id),
    el("div", { class: "an-sides" }, item.sides.map(sideBlock)));
}

function sideBlock(side) {
  const events = side.counts
    ? `${side.counts.matched} matched, ${side.counts.hallucinated} hallucinated, ${side.counts.misused} misused, ${side.counts.missed} missed`
    : "events not judged";
  return el("article", { class: "an-trace", "data-arm": side.arm },
    el("h4", { dir: "auto" }, side.arm),
    el("p", {}, el("span", { dir: "auto" }, side.prediction || "no answer"), " ", el("small", {}, verdict(side))),
    el("small", {}, events),
    side.parts.map((part) => el("div", { class: "an-part", "data-kind": part.kind, dir: "auto" }, el("b", {}, part.name), part.text)),
    side.cut ? el("p", { class: "an-note" }, "The rest of this trace is too long to show here.") : null);
}
