// What stands above the arms: the question with its downloads, and the controls of the heatmaps.
//
// `view` is the state of the view (see view.js); `slots.scaleTop` receives the element that tells the top of the scale.

function headBlock(view, options) {
  const { doc } = view;
  const truth = doc.question.answer;
  const eyebrow = { running: "Running", stopped: "Stopped before the end", error: "Failed", done: doc.stored ? "Stored comparison" : "Finished comparison" }[doc.status] || "";
  const choices = doc.question.choices.length
    ? h("ol", { class: "mp-choices" }, doc.question.choices.map((choice, i) => {
      const right = truth !== null && choice === truth;
      return h("li", { class: right ? "mp-right" : "" }, h("b", {}, String.fromCharCode(65 + i)), h("span", { dir: "auto" }, choice), right ? h("em", {}, "✓ true answer") : null);
    }))
    : truth ? h("p", { class: "mp-note" }, "True answer: ", h("span", { dir: "auto" }, truth)) : null;
  const facts = [doc.clip.name, seconds(doc.clip.seconds), doc.question.domain, doc.question.difficulty].filter(Boolean);
  const actions = view.running ? null : h("div", { class: "mp-actions" },
    doc.link && options.shell ? h("button", { type: "button", "data-do": "link", title: doc.clip.shareable ? "A link that opens this clip and question" : "A link that opens this question; your clip is not part of it" }, "Copy link") : null,
    h("button", { type: "button", "data-do": "json" }, "Download JSON"),
    options.shell ? h("button", { type: "button", "data-do": "html" }, "Download page") : null,
    options.guide ? h("button", { type: "button", "data-do": "guide" }, "What is decay?") : null);
  return [
    h("div", { class: "mp-headline" },
      h("div", {}, h("p", { class: `mp-eyebrow mp-status-${doc.status}` }, eyebrow), h("h2", { dir: "auto" }, doc.question.text || "No question")), actions),
    choices,
    h("p", { class: "mp-facts" }, facts.map((fact, i) => [i ? " · " : "", h("span", { dir: "auto" }, fact)]), doc.credits ? h("span", { class: "mp-credits", dir: "auto" }, ` · ${doc.credits}`) : null),
    doc.clip.warnings.map((warning) => h("p", { class: "mp-warning" }, warning)),
  ];
}

function segmented(id, legend, name, entries, current) {
  return h("fieldset", { class: "mp-segmented" }, h("legend", {}, legend), entries.map(([value, label, title]) => h("label", { title },
    h("input", { type: "radio", name: `${id}-${name}`, value, checked: value === current, "data-set": name }), h("span", {}, label))));
}

function picker(view, name, label, count, reason) {
  if (reason) return h("span", { class: "mp-note" }, reason);
  const picked = view.settings[name].filter((index) => index < count);
  const summary = !picked.length || picked.length === count ? `all ${count}` : picked.length === 1 ? `${picked[0] + 1}` : `${picked.length} of ${count}`;
  const third = Math.ceil(count / 3);
  const preset = (text, from, to) => h("button", { type: "button", "data-preset": name, "data-from": from, "data-to": to }, text);
  return h("details", { class: "mp-picker", "data-picker": name }, h("summary", {}, `${label}: ${summary}`),
    h("div", { class: "mp-picker-box" },
      h("div", { class: "mp-presets" }, preset("All", 0, count), count > 2 && name === "layers" ? [preset("Early", 0, third), preset("Middle", third, count - third), preset("Late", count - third, count)] : null),
      h("div", { class: "mp-checks" }, Array.from({ length: count }, (_, i) => h("label", {},
        h("input", { type: "checkbox", "data-pick": name, value: i, checked: !picked.length || picked.includes(i) }), h("span", {}, i + 1))))));
}

function controlsBlock(view, slots) {
  const corrected = segmented(view.id, "Attention", "corrected", [["raw", "Raw", "Share of a token's attention that falls on the audio"],
    ["corrected", "Length-corrected", "Relative to attention spread evenly over everything that the token can see"]], view.settings.corrected ? "corrected" : "raw");
  const records = view.doc.arms.map((arm) => arm.attention).filter((record) => record && record.tokens);
  if (!records.length) return view.doc.arms.some((arm) => arm.attention) ? h("div", { class: "mp-controls", role: "group", "aria-label": "What the lines show, for both arms" }, corrected) : null;
  const layers = Math.max(...records.map((record) => record.layers));
  const heads = Math.max(...records.map((record) => record.heads));
  // Long traces keep single layers and heads for parts only, or not at all (pages/attention_pack.py).
  const kept = (record, axis) => record.tokens.shape[axis] > 1 ||
    (view.settings.rows === "parts" && record.parts && record.parts.shape[axis] > 1 && record.mass.shape[axis] > 1);
  const layered = records.every((record) => record.layers === 1 || kept(record, 0));
  const headed = records.every((record) => record.heads === 1 || kept(record, 1));
  return h("div", { class: "mp-controls", role: "group", "aria-label": "What the heatmaps show, for both arms" },
    segmented(view.id, "Rows", "rows", [["parts", "Parts", "One row for each part of the trace"], ["tokens", "Tokens", "One row for each generated token"]], view.settings.rows),
    corrected,
    h("label", { class: "mp-check", title: "Subtract frames that draw attention whatever is being written" },
      h("input", { type: "checkbox", "data-set": "removeSinks", checked: view.settings.removeSinks }), h("span", {}, "Remove sinks")),
    layers > 1 || heads > 1 ? [picker(view, "layers", "Layers", layers, layered ? null : "Layers are averaged here"), picker(view, "heads", "Heads", heads, headed ? null : "Heads are averaged here")] : null,
    h("div", { class: "mp-scale" }, h("span", {}, "0"), h("i", { style: { background: rampCss(RAMPS[view.dark ? "dark" : "light"].heat) } }),
      slots.scaleTop = h("span", {}, ""), h("small", {}, "shared by both arms")),
    helpBlock());
}

const HELP = [
  ["On audio", "share of a word's attention that falls on the clip; the rest goes to the question and to what is written already"],
  ["An even share", "what the clip would get if attention were spread evenly over all that the word can see: 1× is no preference"],
  ["Length-corrected", "every value divided by that even share, so that a long trace does not look deaf only because it is long"],
  ["Remove sinks", "takes away moments that draw attention whatever is being written"],
  ["Layers, heads", "the model attends many times over for each word; the picture shows the mean of those chosen"],
];
function helpBlock() {
  return h("details", { class: "mp-fold mp-help" }, h("summary", {}, "What these mean"),
    h("dl", {}, HELP.map(([term, meaning]) => h("div", {}, h("dt", {}, term), h("dd", {}, meaning)))));
}
