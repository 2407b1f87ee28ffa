// From the comparison document to numbers: unpacking, reducing attention to rows, sinks, intervals.
//
// Conventions: times in seconds from the start of the clip; a column covers [j * column_s, (j + 1) * column_s); a row of
// the heatmap is one part of the trace or one generated token. Packed arrays hold one byte a value and one float32
// scale a row (the last axis): value = byte / 255 * scale.

function bytesOf(base64) {
  const binary = atob(base64);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i += 1) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

const unpacked = new Map(); // base64 text -> array, so that streaming updates decode nothing twice

function unpack(packed) {
  if (!packed) return null;
  const known = unpacked.get(packed.data);
  if (known) return known;
  const shape = packed.shape.slice();
  const bytes = bytesOf(packed.data);
  const scale = new Float32Array(bytesOf(packed.scale).buffer);
  const width = shape[shape.length - 1];
  const values = new Float32Array(bytes.length);
  for (let i = 0; i < bytes.length; i += 1) values[i] = (bytes[i] / 255) * scale[Math.floor(i / width)];
  const array = { shape, values };
  if (unpacked.size > 12) unpacked.clear();
  unpacked.set(packed.data, array);
  return array;
}

const KIND_NAMES = {
  perception: "Perception", step: "Step", ask: "Ask", hear: "Hear", infer: "Infer",
  review: "Review", answer: "Answer", think: "Think", text: "Free text",
};

function partName(parts, index) {
  const part = parts[index];
  const name = KIND_NAMES[part.kind] || "Free text";
  const parent = part.parent === null || part.parent === undefined ? null : parts[part.parent];
  if (parent && parent.kind === "step" && parent.number) return `Step ${parent.number} · ${name.toLowerCase()}`;
  return part.kind === "step" && part.number ? `${name} ${part.number}` : name;
}

function shortPartName(parts, index) {
  const part = parts[index];
  const parent = part.parent === null || part.parent === undefined ? null : parts[part.parent];
  if (parent && parent.kind === "step" && parent.number) return `${parent.number} ${part.kind}`;
  if (part.kind === "step" && part.number) return `step ${part.number}`;
  return part.kind;
}

// Spans of sentences in free text, as character spans. Only a full stop, question or exclamation mark before a blank, or
// a line break, ends one; pieces shorter than 12 characters join the next ("1. ", "e.g. ").
function sentences(characters, start, stop) {
  const spans = [];
  let from = start;
  for (let i = start; i < stop; i += 1) {
    const ends = characters[i] === "\n" || (".?!".includes(characters[i]) && (i + 1 >= stop || /\s/.test(characters[i + 1])));
    if (ends && i + 1 - from >= 12) { spans.push([from, i + 1]); from = i + 1; }
  }
  if (from < stop) { if (spans.length && stop - from < 12) spans[spans.length - 1][1] = stop; else spans.push([from, stop]); }
  return spans;
}

// The rows of the "parts" view: leaves of the trace, and the sentences of long free text. Each has tokens [start, stop).
function units(arm) {
  const characters = Array.from(arm.text || "");
  const out = [];
  for (const { part, index } of rowParts(arm)) {
    const pieces = part.kind === "text" || part.kind === "think" ? sentences(characters, part.chars[0], part.chars[1]) : [];
    if (pieces.length < 2) { out.push({ index, kind: part.kind, name: partName(arm.parts, index), short: shortPartName(arm.parts, index), start: part.tokens[0], stop: part.tokens[1] }); continue; }
    let token = part.tokens[0];
    pieces.forEach(([, to], n) => {
      const start = token;
      while (token < part.tokens[1] && (n === pieces.length - 1 || arm.tokens[token][1] <= to)) token += 1;
      if (token > start) out.push({ index: null, kind: part.kind, name: `Sentence ${n + 1}`, short: `sent. ${n + 1}`, start, stop: token });
    });
  }
  return out;
}

// The parts that get a row: leaves with at least one token. A step is shown by its ask, hear and infer.
function rowParts(arm) {
  const hasChild = new Set(arm.parts.map((part) => part.parent).filter((parent) => parent !== null && parent !== undefined));
  return arm.parts
    .map((part, index) => ({ part, index }))
    .filter(({ part, index }) => !hasChild.has(index) && part.tokens && part.tokens[1] > part.tokens[0] && part.text.trim());
}

function chosen(all, count, stored) {
  if (stored === 1) return [0];
  const picks = all.filter((index) => index < count);
  return picks.length ? picks : Array.from({ length: count }, (_, index) => index);
}

function meanOver(array, layers, heads, row, width, out) {
  const [, H, T, J] = array.shape;
  const share = 1 / (layers.length * heads.length);
  for (const layer of layers) {
    for (const head of heads) {
      const base = ((layer * H + head) * T + row) * J;
      for (let j = 0; j < width; j += 1) out[j] += array.values[base + j] * share;
    }
  }
}

// Sinks, by the rule of mpar2.attention.sink_frames: columns that hold at least SINK_TIMES_UNIFORM times their even share
// of the attention to audio at nine tokens of ten; under SINK_MIN_TOKENS tokens nothing can be said.
const SINK_TIMES_UNIFORM = 5;
const SINK_TOKENS = 0.9;
const SINK_MIN_TOKENS = 8;

function quantile(values, q) { // linear interpolation, as numpy
  const sorted = Float64Array.from(values).sort();
  const place = q * (sorted.length - 1);
  const low = Math.floor(place);
  const high = Math.min(low + 1, sorted.length - 1);
  return sorted[low] + (sorted[high] - sorted[low]) * (place - low);
}

function sinkColumns(matrix) {
  const width = matrix.length ? matrix[0].length : 0;
  if (matrix.length < SINK_MIN_TOKENS || width < 2 * SINK_TIMES_UNIFORM) return [];
  const totals = matrix.map((row) => Math.max(row.reduce((sum, value) => sum + value, 0), 1e-12));
  const found = [];
  for (let j = 0; j < width; j += 1) {
    if (quantile(matrix.map((row, t) => row[j] / totals[t]), 1 - SINK_TOKENS) * width >= SINK_TIMES_UNIFORM) found.push(j);
  }
  return found;
}

// Rows of one arm's heatmap under the chosen view; twin of mpar2.attention.heatmap. Values are the mean weight of one
// 40 ms frame; length-corrected, multiples of attention spread evenly over all that the token can see. A sink is
// subtracted: what its column holds at nine tokens of ten is taken away, and what stands above that stays.
// `settings` is described in view.js; rows are parts or tokens.
function reduceAttention(arm, settings) {
  const record = arm.attention;
  if (!record) return null;
  const mass = unpack(record.mass);
  if (!record.tokens) { // the share on audio alone was kept: a line, and no heatmap
    const [layers, heads, length] = mass.shape;
    const tokenMass = new Float32Array(length);
    mass.values.forEach((value, i) => { tokenMass[i % length] += value / (layers * heads); });
    return { rows: [], sinks: [], columns: 0, column_s: record.column_s, tokens: length, tokenMass, perToken: [] };
  }
  const tokens = unpack(record.tokens);
  const byPart = unpack(record.parts);
  const [L, H, T, J] = tokens.shape;
  if (!T || !J) return null;
  const layers = chosen(settings.layers, record.layers, L);
  const heads = chosen(settings.heads, record.heads, H);
  const raw = [];
  for (let t = 0; t < T; t += 1) {
    const row = new Float32Array(J);
    meanOver(tokens, layers, heads, t, J, row);
    raw.push(row);
  }
  const tokenMass = new Float32Array(T);
  const massLayers = chosen(settings.layers, record.layers, mass.shape[0]);
  const massHeads = chosen(settings.heads, record.heads, mass.shape[1]);
  for (const layer of massLayers) {
    for (const head of massHeads) {
      const base = (layer * mass.shape[1] + head) * T;
      for (let t = 0; t < T; t += 1) tokenMass[t] += mass.values[base + t] / (massLayers.length * massHeads.length);
    }
  }
  const share = (t) => (settings.corrected ? (tokenMass[t] * record.visible[t]) / record.audio_positions : tokenMass[t]);
  const perToken = settings.corrected ? raw.map((row, t) => row.map((value) => value * record.visible[t])) : raw.map((row) => row.slice());
  const sinks = settings.removeSinks ? sinkColumns(raw) : [];
  const standing = sinks.map((j) => quantile(perToken.map((row) => row[j]), 1 - SINK_TOKENS));
  const subtract = (row) => sinks.forEach((j, i) => { row[j] = Math.max(row[j] - standing[i], 0); });
  perToken.forEach(subtract);

  const rows = [];
  const mean = (start, stop, from) => {
    const values = new Float32Array(J);
    for (let t = start; t < stop; t += 1) for (let j = 0; j < J; j += 1) values[j] += from[t][j] / (stop - start);
    return values;
  };
  const between = (start, stop) => {
    let total = 0;
    for (let t = start; t < stop; t += 1) total += share(t);
    return total / (stop - start);
  };
  if (settings.rows === "tokens") {
    for (let t = 0; t < T; t += 1) rows.push({ values: perToken[t], share: share(t), start: t, stop: t + 1, unit: null });
  } else {
    for (const unit of units(arm)) {
      const [start, stop] = [unit.start, Math.min(unit.stop, T)];
      if (stop <= start) continue;
      let values;
      const slot = byPart && unit.index !== null ? record.parts_of.indexOf(unit.index) : -1;
      if (slot >= 0 && H === 1) { // single heads and layers are kept for parts only, to keep the document small
        values = new Float32Array(J);
        meanOver(byPart, chosen(settings.layers, record.layers, byPart.shape[0]), chosen(settings.heads, record.heads, byPart.shape[1]), slot, J, values);
        if (settings.corrected) {
          let visible = 0;
          for (let t = start; t < stop; t += 1) visible += record.visible[t] / (stop - start);
          values = values.map((value) => value * visible);
        }
        subtract(values);
      } else values = mean(start, stop, perToken);
      rows.push({ values, share: between(start, stop), start, stop, unit });
    }
  }
  return { rows, sinks, columns: J, column_s: record.column_s, tokens: T, tokenMass, perToken };
}

// The value that takes the darkest colour, shared by both arms: the 99th percentile of all shown cells.
function sharedMaximum(pictures) {
  const values = [];
  for (const picture of pictures) {
    if (!picture) continue;
    for (const row of picture.rows) for (const value of row.values) if (Number.isFinite(value)) values.push(value);
  }
  if (!values.length) return 0;
  values.sort((a, b) => a - b);
  return values[Math.min(values.length - 1, Math.floor(values.length * 0.99))] || values[values.length - 1];
}

// Where a row listened: its values smoothed over 0.2 s, runs above mean + 1 standard deviation joined over gaps of 0.12 s,
// the three that hold most of the mass.
function peaks(values, column_s, clipSeconds) {
  const raw = Array.from(values, (value) => (Number.isFinite(value) ? value : 0));
  const half = Math.floor(0.1 / column_s);
  const known = raw.map((_, j) => {
    const window = raw.slice(Math.max(0, j - half), j + half + 1);
    return window.reduce((sum, value) => sum + value, 0) / window.length;
  });
  const total = known.reduce((sum, value) => sum + value, 0);
  if (!(total > 0)) return [];
  const mean = total / known.length;
  const deviation = Math.sqrt(known.reduce((sum, value) => sum + (value - mean) ** 2, 0) / known.length);
  const limit = mean + deviation;
  const joined = [];
  known.forEach((value, j) => {
    if (value < limit) return;
    const last = joined[joined.length - 1];
    if (last && (j - last.stop) * column_s <= 0.12 + 1e-9) { last.stop = j + 1; last.mass += value; } else joined.push({ start: j, stop: j + 1, mass: value });
  });
  return joined
    .map((run) => ({ start: run.start * column_s, stop: Math.min(run.stop * column_s, clipSeconds), share: run.mass / total }))
    .filter((run) => run.stop > run.start)
    .sort((a, b) => b.share - a.share)
    .slice(0, 3);
}
