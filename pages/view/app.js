// The small views of the app's form: what was uploaded, the gallery of examples, suggested questions.

// `note`: { level: "ok" | "warning" | "error", lines: [text] } or null.
function showNote(root, note) {
  root.replaceChildren();
  if (!note) return;
  root.append(h("div", { class: `mp-clip-note mp-${note.level}`, role: note.level === "error" ? "alert" : "status" },
    note.lines.map((line) => h("p", { dir: "auto" }, line))));
}

// `cards`: [{ name, title, kind, difficulty, domain, seconds, stored }]
function showGallery(root, cards, pick) {
  root.replaceChildren();
  if (!cards || !cards.length) return;
  root.append(h("div", { class: "mp-gallery", role: "group", "aria-label": "Examples" }, cards.map((card) =>
    h("button", { type: "button", class: "mp-card", onclick: () => pick(card.name) },
      h("b", {}, card.title),
      h("small", {}, [card.kind, card.difficulty, seconds(card.seconds)].filter(Boolean).join(" · "))))));
}

// `questions`: [{ text, choices }]
function showSuggestions(root, value, pick) {
  root.replaceChildren();
  if (!value || !value.questions.length) return;
  root.append(h("details", { class: "mp-suggest" }, h("summary", {}, "Suggested questions"),
    h("div", { class: "mp-suggest-list" }, value.questions.map((question, index) =>
      h("button", { type: "button", onclick: () => pick(index) }, question.text))),
    h("p", { class: "mp-note" }, value.note)));
}
