// One arm's picture: mel spectrogram above, attention heatmap below, one time axis, a strip of buttons that seek,
// a lane of true events, and the same in words and as a table.

const HEAT_ROW = { parts: 22, tokens: 360 };

function drawMel(canvas, mel, dark) {
  if (!mel) return;
  const bytes = bytesOf(mel.data);
  const [bands, columns] = mel.shape;
  canvas.width = columns;
  canvas.height = bands;
  const context = canvas.getContext("2d");
  const image = context.createImageData(columns, bands);
  const table = RAMPS[dark ? "dark" : "light"].mel;
  for (let band = 0; band < bands; band += 1) {
    for (let j = 0; j < columns; j += 1) {
      const level = bytes[(bands - 1 - band) * columns + j];
      image.data.set([table[3 * level], table[3 * level + 1], table[3 * level + 2], 255], 4 * (band * columns + j));
    }
  }
  context.putImageData(image, 0, 0);
}

function drawHeat(canvas, picture, maximum, dark) {
  const rows = picture.rows.length;
  canvas.width = picture.columns;
  canvas.height = Math.max(1, rows);
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, canvas.height);
  const table = RAMPS[dark ? "dark" : "light"].heat;
  picture.rows.forEach((row, i) => {
    for (let j = 0; j < picture.columns; j += 1) {
      const value = row.values[j];
      const level = maximum > 0 ? clamp(Math.round((255 * value) / maximum), 0, 255) : 0;
      image.data.set([table[3 * level], table[3 * level + 1], table[3 * level + 2], 255], 4 * (i * picture.columns + j));
    }
  });
  context.putImageData(image, 0, 0);
}

// True events in as few lanes as their overlaps allow.
function eventLanes(events, clipSeconds) {
  const lanes = [];
  const placed = [];
  events.map((event, index) => ({ event, index }))
    .filter(({ event }) => Number.isFinite(event.onset_s) && Number.isFinite(event.offset_s))
    .sort((a, b) => a.event.onset_s - b.event.onset_s)
    .forEach(({ event, index }) => {
      let lane = lanes.findIndex((end) => end <= event.onset_s + 1e-6);
      if (lane < 0) { lane = lanes.length; lanes.push(0); }
      lanes[lane] = event.offset_s;
      placed.push({ event, index, lane, left: clamp(event.onset_s / clipSeconds, 0, 1), width: clamp((event.offset_s - event.onset_s) / clipSeconds, 0.004, 1) });
    });
  return { placed, count: lanes.length };
}

function timeTicks(clipSeconds) {
  const step = [0.5, 1, 2, 5, 10, 20, 30, 60].find((candidate) => clipSeconds / candidate <= 7) || 120;
  const ticks = [];
  for (let t = 0; t <= clipSeconds + 1e-6; t += step) ticks.push(t);
  return ticks;
}

function stripStep(clipSeconds, width) {
  const most = clamp(Math.floor(width / 25), 6, 24);
  return [0.25, 0.5, 1, 2, 5, 10, 20, 30].find((step) => clipSeconds / step <= most) || clipSeconds / most;
}

// Share of a row's audio attention in [start, stop).
function shareWithin(values, column_s, start, stop) {
  let inside = 0;
  let total = 0;
  values.forEach((value, j) => {
    if (!Number.isFinite(value)) return;
    total += value;
    const overlap = Math.min(stop, (j + 1) * column_s) - Math.max(start, j * column_s);
    if (overlap > 0) inside += (value * overlap) / column_s;
  });
  return total > 0 ? inside / total : 0;
}

function meanRow(picture) {
  const mean = new Float32Array(picture.columns);
  for (const row of picture.rows) row.values.forEach((value, j) => { mean[j] += value / picture.rows.length; });
  return mean;
}

// The heatmap in one sentence.
function inWords(arm, picture, settings, clipSeconds) {
  if (!picture || !picture.rows.length) return `${arm.name}: no attention was recorded.`;
  const show = settings.corrected ? times : percent;
  const overall = picture.rows.reduce((sum, row) => sum + row.share * (row.stop - row.start), 0) /
    picture.rows.reduce((sum, row) => sum + (row.stop - row.start), 0);
  const best = picture.rows.reduce((a, b) => (b.share > a.share ? b : a));
  const least = picture.rows.reduce((a, b) => (b.share < a.share ? b : a));
  const name = (row) => (row.unit ? `“${row.unit.name}”` : `token ${row.start + 1}`);
  const where = peaks(best.values, picture.column_s, clipSeconds)[0];
  const sinkText = settings.removeSinks
    ? picture.sinks.length
      ? ` ${picture.sinks.length} sink ${picture.sinks.length === 1 ? "frame is" : "frames are"} subtracted (at ${picture.sinks.map((j) => seconds(j * picture.column_s)).slice(0, 3).join(", ")}${picture.sinks.length > 3 ? ", …" : ""}).`
      : " No frame is a sink."
    : "";
  const spread = picture.rows.length > 1 ? `most in ${name(best)} (${show(best.share)}${where ? `, above all ${interval(where.start, where.stop)}` : ""}), least in ${name(least)} (${show(least.share)})`
    : where ? `above all ${interval(where.start, where.stop)}` : "nowhere in particular";
  return `${arm.name} gives the audio ${show(overall)} ${settings.corrected ? "an even share" : "of its attention"} on average: ${spread}.${sinkText}`;
}

function rowText(arm, row) {
  if (row.unit) return row.unit.name;
  const [from, to] = arm.tokens[row.start] || [0, 0];
  return Array.from(arm.text).slice(from, to).join("") || " ";
}

function tableTwin(arm, picture, settings, clipSeconds) {
  const show = settings.corrected ? times : percent;
  return h("details", { class: "mp-fold" }, h("summary", {}, "The same as a table"),
    h("div", { class: "mp-table-box", tabindex: 0, role: "region", "aria-label": `Attention of ${arm.name} as a table` }, h("table", { class: "mp-twin" },
      h("thead", {}, h("tr", {}, ["Row", "Tokens", settings.corrected ? "On audio, length-corrected" : "On audio", "Listened most at"].map((title) => h("th", { scope: "col" }, title)))),
      h("tbody", {}, picture.rows.map((row) => h("tr", {},
        h("th", { scope: "row", dir: "auto" }, rowText(arm, row)),
        h("td", {}, row.stop - row.start === 1 ? `${row.start + 1}` : `${row.start + 1}–${row.stop}`),
        h("td", {}, show(row.share)),
        h("td", {}, peaks(row.values, picture.column_s, clipSeconds).map((run) => `${interval(run.start, run.stop)} (${percent(run.share, 0)})`).join(", ") || "–")))))));
}

function pictureBlock(arm, armIndex, picture, maximum, view) {
  const { doc, settings } = view;
  const clipSeconds = doc.clip.seconds;
  const dark = view.dark;
  const mel = h("canvas", { class: "mp-mel", role: "img", "aria-label": `Mel spectrogram of the clip, ${seconds(clipSeconds)}` });
  drawMel(mel, doc.clip.mel, dark);
  const melRow = h("div", { class: "mp-row mp-row-mel" }, h("div", { class: "mp-gutter" }, h("small", {}, "8 kHz"), h("small", {}, "mel"), h("small", {}, "0")),
    h("div", { class: "mp-plot" }, mel), h("div", { class: "mp-side" }));

  const step = stripStep(clipSeconds, view.plotWidth);
  const buttons = [];
  for (let start = 0; start < clipSeconds - 1e-6; start += step) {
    const stop = Math.min(start + step, clipSeconds);
    buttons.push(h("button", { type: "button", class: "mp-strip-button", "data-seek": start.toFixed(3), "data-start": start, "data-stop": stop, tabindex: start === 0 ? 0 : -1,
      style: { "flex-grow": String((stop - start) / step) } }));
  }
  const strip = h("div", { class: "mp-row mp-row-strip" }, h("div", { class: "mp-gutter" }, h("small", {}, "play")),
    h("div", { class: "mp-plot mp-strip", role: "toolbar", "aria-label": `Play the clip from a time. ${arm.name}` }, buttons), h("div", { class: "mp-side" }));

  const rows = doc.clip.mel ? [melRow, strip] : []; // of a stored item the sound may not be kept
  let heatPlot = null;
  if (picture && picture.rows.length) {
    const heat = h("canvas", { class: "mp-heat", role: "img", "aria-label": inWords(arm, picture, settings, clipSeconds) });
    drawHeat(heat, picture, maximum, dark);
    heat.style.width = `${(100 * picture.columns * picture.column_s) / clipSeconds}%`; // the model may hear less than the clip
    const parts = settings.rows === "parts";
    const height = parts ? HEAT_ROW.parts * picture.rows.length : clamp(picture.rows.length * 8, 120, HEAT_ROW.tokens);
    const gutter = parts
      ? picture.rows.map(({ unit }) => h("button", { type: "button", class: `mp-row-label mp-kind-${unit.kind}`, ...choice(unit.name, unit.start, unit.stop) }, unit.short))
      : units(arm).filter((unit) => unit.start < picture.tokens).map((unit) => h("button", { type: "button", class: `mp-row-bracket mp-kind-${unit.kind}`, ...choice(unit.name, unit.start, unit.stop),
          style: { top: `${(100 * unit.start) / picture.tokens}%`, height: `${(100 * (Math.min(unit.stop, picture.tokens) - unit.start)) / picture.tokens}%` } }, unit.short));
    const bars = picture.rows.map((row) => h("div", { class: "mp-bar", title: `${rowText(arm, row)}: ${settings.corrected ? times(row.share) : percent(row.share)} on audio` },
      h("i", { style: { width: `${(100 * row.share) / view.topShare}%` } }), parts ? h("small", {}, settings.corrected ? times(row.share) : percent(row.share, 0)) : null));
    heatPlot = h("div", { class: "mp-plot mp-heat-plot", style: { height: `${height}px` } }, heat, h("div", { class: "mp-cursor-row" }), h("div", { class: "mp-hover" }));
    rows.push(h("div", { class: `mp-row mp-row-heat mp-rows-${settings.rows}` }, h("div", { class: "mp-gutter" }, gutter), heatPlot,
      h("div", { class: "mp-side mp-bars", "aria-hidden": "true" }, bars)));
  } else {
    rows.push(h("div", { class: "mp-row mp-row-heat" }, h("div", { class: "mp-gutter" }),
      h("div", { class: "mp-plot mp-empty" }, view.running ? "The heatmap comes when the trace is finished." : picture ? (picture.columns ? "The trace holds no words to show by parts." : "No heatmap was kept, only each token's share on audio.") : "No attention was recorded for this arm."), h("div", { class: "mp-side" })));
  }

  const ticks = timeTicks(clipSeconds);
  rows.push(h("div", { class: "mp-row mp-row-axis", "aria-hidden": "true" }, h("div", { class: "mp-gutter" }),
    h("div", { class: "mp-plot" }, ticks.map((t, i) => h("span", { class: i === 0 ? "mp-first" : t > 0.96 * clipSeconds ? "mp-last" : "", style: { left: `${(100 * t) / clipSeconds}%` } }, `${+t.toFixed(2)}${i === ticks.length - 1 ? " s" : ""}`))),
    h("div", { class: "mp-side" }, picture && picture.rows.length ? "on audio" : "")));

  if (doc.truth && doc.truth.events && doc.truth.events.length) {
    const { placed, count } = eventLanes(doc.truth.events, clipSeconds);
    if (placed.length) {
      rows.push(h("div", { class: "mp-row mp-row-truth" }, h("div", { class: "mp-gutter" }, h("small", {}, "truth")),
        h("div", { class: "mp-plot", style: { height: `${24 * count}px` } }, placed.map(({ event, index, lane, left, width }) =>
          h("button", { type: "button", class: "mp-event", "data-event": index, "data-seek": event.onset_s, title: `${event.label}, ${interval(event.onset_s, event.offset_s)}`,
            style: { left: `${100 * left}%`, width: `${100 * width}%`, top: `${24 * lane}px` } }, h("span", { dir: "auto" }, event.label)))), h("div", { class: "mp-side" })));
    }
  }
  const figure = h("div", { class: "mp-picture", "data-arm": armIndex }, rows, h("div", { class: "mp-band", "aria-hidden": "true" }), h("div", { class: "mp-playhead", "aria-hidden": "true" }));
  const sentence = picture && picture.columns ? h("p", { class: "mp-words" }, inWords(arm, picture, settings, clipSeconds)) : null;
  const table = picture && picture.rows.length ? tableTwin(arm, picture, settings, clipSeconds) : null;
  return { figure, heatPlot, below: [sentence, table] };
}
