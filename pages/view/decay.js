// Attention on audio along the trace: one line for each arm, with shared axes, so that a fall can be seen at a glance.

const SVG = "http://www.w3.org/2000/svg";

function svg(tag, attributes, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  element.append(...children);
  return element;
}

// Mean over a window of tokens, so that the line shows the course and not single tokens.
function smooth(values, half) {
  return values.map((_, t) => {
    const from = Math.max(0, t - half);
    const to = Math.min(values.length, t + half + 1);
    return values.slice(from, to).reduce((sum, value) => sum + value, 0) / (to - from);
  });
}

function courseOf(arm, picture, settings) {
  const record = arm.attention;
  return Array.from(picture.tokenMass, (mass, t) => (settings.corrected ? (mass * record.visible[t]) / record.audio_positions : mass));
}

// Mean over the first and over the last third of a trace.
function thirds(course) {
  const third = Math.max(1, Math.floor(course.length / 3));
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
  return { first: mean(course.slice(0, third)), last: mean(course.slice(-third)) };
}

function decayBlock(arm, picture, settings, longest, top) {
  if (!picture || picture.tokens < 2) return null;
  const course = courseOf(arm, picture, settings);
  const line = smooth(course, Math.max(1, Math.round(course.length / 60)));
  const x = (t) => (100 * (t + 0.5)) / longest;
  const y = (value) => 38 - (36 * Math.min(value, top)) / top;
  const points = line.map((value, t) => `${x(t).toFixed(2)},${y(value).toFixed(2)}`).join(" ");
  const bands = rowParts(arm).map(({ part }) => svg("rect", { class: `mp-kind-${part.kind}`, x: (100 * part.tokens[0]) / longest, y: 38, height: 2,
    width: (100 * Math.max(0, Math.min(part.tokens[1], picture.tokens) - part.tokens[0])) / longest }));
  const show = settings.corrected ? times : percent;
  const { first, last } = thirds(course);
  const words = `${show(first)} in the first third of the trace, ${show(last)} in the last`;
  const plot = svg("svg", { viewBox: "0 0 100 40", preserveAspectRatio: "none", role: "img", "aria-label": `Attention on audio along the trace of ${arm.name}: ${words}` },
    ...bands,
    svg("polygon", { class: "mp-decay-area", points: `${x(0)},38 ${points} ${x(line.length - 1)},38` }),
    svg("polyline", { class: "mp-decay-line", points }));
  return h("div", { class: "mp-decay" },
    h("div", { class: "mp-decay-head" }, h("span", {}, "Attention on audio along the trace"), h("small", {}, `top of the axis ${show(top)}`)), plot, h("p", { class: "mp-note" }, `${words}.`));
}
