// One arm's trace: parts told apart by label and colour, tokens that can be picked, mentions marked by kind.

const MENTION_KINDS = {
  matched: { letter: "M", name: "Matched", meaning: "the clip holds it, and nothing wrong is said of it" },
  hallucinated: { letter: "H", name: "Hallucinated", meaning: "the clip does not hold it" },
  misused: { letter: "U", name: "Misused", meaning: "real, but its time, order, count, source or use is wrong" },
  neutral: { letter: "N", name: "Neutral", meaning: "asked, denied, left open or answered: nothing is asserted" },
};

// Text between start and stop as runs that no token or mention border crosses.
function runsOf(arm, characters, start, stop) {
  const borders = new Set([start, stop]);
  const add = (position) => { if (position > start && position < stop) borders.add(position); };
  for (const [from, to] of arm.tokens || []) { if (to > start && from < stop) { add(from); add(to); } }
  const mentions = arm.cafe && arm.cafe.mentions ? arm.cafe.mentions : [];
  for (const mention of mentions) { add(mention.start); add(mention.stop); }
  const sorted = Array.from(borders).sort((a, b) => a - b);
  const runs = [];
  let token = 0;
  const spans = arm.tokens || [];
  for (let i = 0; i + 1 < sorted.length; i += 1) {
    const [from, to] = [sorted[i], sorted[i + 1]];
    while (token < spans.length && spans[token][1] <= from) token += 1;
    const inToken = token < spans.length && spans[token][0] <= from ? token : null;
    const mention = mentions.findIndex((item) => item.start <= from && item.stop >= to);
    runs.push({ text: characters.slice(from, to).join(""), token: inToken, mention });
  }
  return runs;
}

function mentionMark(arm, index, children) {
  const mention = arm.cafe.mentions[index];
  const kind = MENTION_KINDS[mention.kind] || MENTION_KINDS.neutral;
  const why = mention.reason ? `: ${shorten(mention.reason, 200)}` : "";
  return h("mark", { class: `mp-mention mp-${kind.name.toLowerCase()}`, "data-mention": index, title: `${kind.name}${why}` },
    children, h("sup", { "aria-label": `(${kind.name.toLowerCase()})` }, kind.letter));
}

function traceText(arm, characters, start, stop) {
  const out = [];
  let group = null;
  for (const run of runsOf(arm, characters, start, stop)) {
    const node = run.token === null ? document.createTextNode(run.text)
      : h("span", { class: "mp-token", "data-token": run.token }, run.text);
    if (group && group.mention === run.mention) group.nodes.push(node);
    else { group = { mention: run.mention, nodes: [node] }; out.push(group); }
  }
  return out.map(({ mention, nodes }) => (mention < 0 ? nodes : mentionMark(arm, mention, nodes)));
}

// What makes an element choose tokens [start, stop) when it is pressed.
const choice = (name, start, stop) => ({ "data-from": start, "data-to": stop, "data-name": name, "aria-pressed": "false",
  title: `Show and hear where “${name}” listened` });

function partBlock(arm, index, characters, view) {
  const part = arm.parts[index];
  const children = arm.parts.map((_, i) => i).filter((i) => arm.parts[i].parent === index);
  const name = partName(arm.parts, index);
  const short = part.parent === null || part.parent === undefined ? name : KIND_NAMES[part.kind];
  const listens = !view.running && arm.attention && arm.attention.tokens && part.tokens && part.tokens[1] > part.tokens[0];
  const label = listens
    ? h("button", { type: "button", class: "mp-part-label", ...choice(name, part.tokens[0], part.tokens[1]) }, short)
    : h("span", { class: "mp-part-label" }, short);
  const text = (from, to) => h("div", { class: "mp-part-text", dir: "auto" }, traceText(arm, characters, from, to));
  const body = [];
  let position = part.chars[0];
  const loose = (stop) => { if (characters.slice(position, stop).join("").trim()) body.push(text(position, stop)); };
  for (const child of children) {
    loose(arm.parts[child].outer[0]);
    body.push(partBlock(arm, child, characters, view));
    position = arm.parts[child].outer[1];
  }
  if (children.length) loose(part.chars[1]);
  else body.push(text(part.chars[0], part.chars[1]));
  return h("div", { class: `mp-part mp-kind-${KIND_NAMES[part.kind] ? part.kind : "text"}` }, label, body);
}

const STAGES = {
  queued: "Waiting for its turn", waiting: "Waiting for the model, which is at work for somebody else", loading: "Loading the model", listening: "Listening to the clip",
  reasoning: "Reasoning", scoring: "Sorting the events it mentions", done: "Done",
};

function traceBlock(arm, view) {
  const characters = Array.from(arm.text || "");
  const parts = arm.parts.map((part, index) => ({ part, index }))
    .filter(({ part }) => part.parent === null || part.parent === undefined)
    .filter(({ part }) => part.kind !== "text" || part.text.trim());
  const blocks = parts.map(({ index }) => partBlock(arm, index, characters, view));
  const running = view.running && arm.stage && arm.stage !== "done";
  const note = running
    ? h("p", { class: "mp-stage" }, h("span", { class: "mp-spinner", "aria-hidden": "true" }),
        `${STAGES[arm.stage] || arm.stage}${arm.stage === "reasoning" ? ` · ${arm.token_count || 0} tokens` : "…"}`)
    : !arm.text && !view.running ? h("p", { class: "mp-stage" }, arm.error ? "No trace: this arm failed." : "No text was generated.") : null;
  const problems = !view.running && arm.problems && arm.problems.length
    ? h("details", { class: "mp-fold" }, h("summary", {}, `${arm.problems.length} irregular ${arm.problems.length === 1 ? "place" : "places"} in the trace's form`),
        h("ul", {}, arm.problems.map((problem) => h("li", {}, problem)))) : null;
  const raw = !view.running && arm.text
    ? h("details", { class: "mp-fold" }, h("summary", {}, "Raw text, as generated"), h("pre", { tabindex: 0, dir: "auto" }, arm.text)) : null;
  const box = h("div", { class: "mp-trace", tabindex: 0, role: "group",
    "aria-label": `Trace of ${arm.name}.${arm.attention ? " Left and right arrow keys choose a token." : ""}` }, blocks, note);
  return [box, h("div", { class: "mp-folds" }, problems, raw)];
}
