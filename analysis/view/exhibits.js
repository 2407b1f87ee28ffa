// Exhibits as a page shows them: title, reading, figure, table, downloads. Serves the app and the report.
//
// mountExhibits(root, { plotly, dark, onPoint }) -> { show(value) }
//   plotly    async function that returns Plotly
//   dark      { light colour: dark colour }, or asked of each value as value.dark
//   onPoint   function(exhibit name, point), called when a point is chosen; absent in the report
//
// Titles, readings, cells: all untrusted text, so they enter the page as text nodes only. Labels inside figures were
// escaped where the figures were made (analysis/exhibit.py).

function el(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on") && typeof value === "function") node.addEventListener(name.slice(2), value);
    else if (/^(class|id|type|role|scope|dir|title|tabindex|open|hidden|href|aria-[a-z]+|data-[a-z-]+)$/.test(name)) node.setAttribute(name, value === true ? "" : String(value));
    else throw new Error(`attribute ${name} is not on the list`);
  }
  for (const child of children.flat(3)) {
    if (child === null || child === undefined || child === false) continue;
    node.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return node;
}

// What a spreadsheet would take for a formula gets an apostrophe before it.
function csvCell(value) {
  if (value === null || value === undefined) return "";
  if (typeof value !== "string") return String(value);
  const safe = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
  return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

function toCsv(table) {
  return [table.columns, ...table.rows].map((row) => row.map(csvCell).join(",")).join("\n") + "\n";
}

function saveAs(name, text, type) {
  const link = el("a", { href: URL.createObjectURL(new Blob([text], { type })) });
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

function cellText(value, column) {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number" || Number.isInteger(value)) return String(value);
  if (/^p_/.test(column) && value < 0.001) return "< 0.001";
  return Math.abs(value) >= 100 ? value.toFixed(1) : value.toFixed(Math.abs(value) < 10 ? 3 : 2);
}

const SHOWN_ROWS = 400;

function tableOf(table, caption) {
  const head = table.columns.map((name) => el("th", { scope: "col" }, name.replaceAll("_", " ")));
  const rows = table.rows.slice(0, SHOWN_ROWS).map((row) => el("tr", {}, row.map((value, i) =>
    el("td", { class: typeof value === "number" ? "an-number" : String(value ?? "").length > 40 ? "an-words" : "", dir: "auto" }, cellText(value, table.columns[i])))));
  const left = table.rows.length - rows.length;
  return el("div", { class: "an-scroll", tabindex: "0", role: "region", "aria-label": caption },
    el("table", {}, el("thead", {}, el("tr", {}, head)), el("tbody", {}, rows)),
    left > 0 ? el("p", { class: "an-note" }, `${left} more rows are in the CSV.`) : null);
}

// Small letters, labels that leave room for the figure, and panels below each other.
function makeNarrow(data, layout) {
  for (const trace of data) if (trace.name) trace.name = shortLabel(trace.name, 36);
  if (layout.meta && layout.meta.panels > 1) stackPanels(layout, layout.meta.panels);
  layout.font = { ...(layout.font || {}), size: 10 };
  layout.legend = { ...(layout.legend || {}), font: { ...((layout.legend || {}).font || {}), size: 11 } };
  for (const [name, axis] of Object.entries(layout)) {
    if (!/^[xy]axis/.test(name)) continue;
    const title = axis.title && axis.title.text;
    if (title) axis.title = { ...axis.title, text: name.startsWith("x") ? inLines(title, 24, 4) : title, font: { ...(axis.title.font || {}), size: 11 } };
    if (name.startsWith("y") && axis.ticktext) {
      axis.ticktext = axis.ticktext.map((text) => inLines(text, 26, 3));
      if (axis.ticktext.some((text) => text.split("<br>").length > 2)) layout.height += 8 * axis.ticktext.length;
    }
    if (name.startsWith("x") && axis.ticktext && axis.ticktext.length > 5) { // upright: one line each
      axis.ticktext = axis.ticktext.map((text) => shortLabel(text.replaceAll("<br>", " "), 22));
      axis.tickangle = 90;
    }
  }
}

// A long legend and upright labels grow the figure: they do not eat its plot.
function makeRoom(data, layout, columns) {
  if (layout.meta && layout.meta.panels) return;
  const entries = layout.showlegend === false ? 0 : data.filter((trace) => trace.name && trace.showlegend !== false).length;
  const upright = layout.xaxis && layout.xaxis.tickangle === 90 ? 60 : 0;
  layout.height = (layout.height || 380) + 18 * Math.max(0, Math.ceil(entries / columns) - 2) + upright;
}

function stackPanels(layout, count) {
  const height = 90 + 190 * count;
  const gap = 60 / height;
  const high = (1 - gap * (count - 1)) / count;
  const titles = { x: "", y: "" };
  for (const [name, axis] of Object.entries(layout)) if (/^[xy]axis/.test(name) && axis.title && axis.title.text) titles[name[0]] = axis.title.text;
  for (let i = 0; i < count; i += 1) {
    const top = 1 - i * (high + gap);
    const [x, y] = ["x", "y"].map((letter) => layout[`${letter}axis${i ? i + 1 : ""}`]);
    x.domain = [0, 1];
    y.domain = [Math.max(0, top - high), top];
    x.title = { ...x.title, text: i === count - 1 ? titles.x : "" };
    y.title = { ...y.title, text: i === 0 ? titles.y : "" };
    Object.assign(layout.annotations[i], { x: 0, y: top });
  }
  layout.height = height;
  layout.legend = { ...layout.legend, y: 1 + 26 / height };
}

// The words of a label in a few lines; what is left over is cut.
function inLines(text, limit, most) {
  const lines = [""];
  for (const word of text.split(" ")) {
    const longer = lines.at(-1) ? `${lines.at(-1)} ${word}` : word;
    if (longer.length <= limit || lines.length === most || !lines.at(-1)) lines[lines.length - 1] = longer;
    else lines.push(word);
  }
  return lines.map((line) => shortLabel(line, limit + 3)).join("<br>");
}

// Labels hold entities (&lt;): one is never cut in two.
function shortLabel(text, limit) {
  const letters = text.match(/&[a-z0-9#]+;|[^]/gu) || [];
  return letters.length <= limit ? text : `${letters.slice(0, limit - 1).join("")}…`;
}

function mountExhibits(root, options) {
  let value = null;
  let drawn = [];
  let seen = null;

  const isDarkNow = () => getComputedStyle(root).getPropertyValue("--an-theme").trim() === "dark";

  function themed(figure) {
    let text = JSON.stringify(figure);
    if (isDarkNow()) for (const [light, dark] of Object.entries(value.dark || {})) text = text.replaceAll(light, dark);
    return JSON.parse(text);
  }

  async function draw(entry) {
    if (entry.done) return;
    entry.done = true;
    const Plotly = await options.plotly();
    const { data, layout } = themed(entry.exhibit.figure);
    const narrow = entry.node.clientWidth > 0 && entry.node.clientWidth < 520;
    if (narrow) makeNarrow(data, layout);
    makeRoom(data, layout, narrow ? 1 : 3);
    // Plotly's own bar would also offer to send the data to a service: only these buttons are ours to give.
    await Plotly.newPlot(entry.node, data, layout, { displaylogo: false, responsive: true, showSendToCloud: false, plotlyServerURL: "",
      displayModeBar: narrow ? false : "hover", modeBarButtons: [["toImage", "zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d"]],
      toImageButtonOptions: { filename: entry.exhibit.name, scale: 2 } });
    if (options.onPoint) {
      entry.node.on("plotly_click", (event) => {
        const point = event.points.map((p) => p.customdata).find((data) => typeof data === "string");
        if (point) options.onPoint(entry.exhibit.name, point);
      });
    }
  }

  // Figures are drawn when they come into sight: sixteen at once would hold up the first one.
  const watcher = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      const entry = drawn.find(({ node }) => node === target);
      if (isIntersecting && entry) draw(entry).catch((error) => { target.textContent = `This figure could not be drawn: ${error.message}`; });
    }
  }, { rootMargin: "300px" });

  async function save(entry, format) {
    await draw(entry);
    const Plotly = await options.plotly();
    await Plotly.downloadImage(entry.node, { format, filename: entry.exhibit.name, width: 1000, height: entry.node.clientHeight || 400, scale: format === "png" ? 2 : 1 });
  }

  function block(exhibit) {
    const node = exhibit.figure ? el("div", { class: "an-figure", role: "figure", "aria-label": `${exhibit.title}. ${exhibit.reading}` }) : null;
    const entry = { exhibit, node, done: false };
    if (node) { node.style.minHeight = `${exhibit.figure.layout.height || 380}px`; drawn.push(entry); watcher.observe(node); }
    const filled = exhibit.table.rows.length > 0;
    const button = (text, work, title) => el("button", { type: "button", title, onclick: work }, text);
    return el("section", { class: `an-exhibit${node || filled ? "" : " an-empty"}`, id: `exhibit-${exhibit.name}`, "data-exhibit": exhibit.name },
      el("header", {}, el("h3", { dir: "auto" }, exhibit.title), exhibit.paper ? el("span", { class: "an-paper" }, `paper: ${exhibit.paper}`) : null),
      el("p", { class: "an-reading", dir: "auto" }, exhibit.reading),
      node,
      node && options.onPoint && exhibit.figure.data.some((trace) => (trace.customdata || []).some(Boolean)) ? el("p", { class: "an-note" }, "Choose a point to read the traces behind it.") : null,
      node || filled ? el("div", { class: "an-actions" },
        node ? [button("PNG", () => save(entry, "png"), "Download the figure as PNG"), button("SVG", () => save(entry, "svg"), "Download the figure as SVG")] : null,
        filled ? button("CSV", () => saveAs(`${exhibit.name}.csv`, toCsv(exhibit.table), "text/csv"), "Download the table behind it as CSV") : null) : null,
      filled ? el("details", { open: !node }, el("summary", {}, `Table (${exhibit.table.rows.length} rows)`), tableOf(exhibit.table, `Table of: ${exhibit.title}`)) : null,
      exhibit.notes.length || exhibit.command.length ? el("details", {}, el("summary", {}, "How it is made"),
        el("ul", {}, exhibit.notes.map((note) => el("li", { dir: "auto" }, note))),
        exhibit.command.length ? el("p", { class: "an-note" }, "Again, from the shell: ", el("code", {}, exhibit.command.map(shellWord).join(" "))) : null) : null);
  }

  function show(next) {
    value = next;
    for (const { node } of drawn) { watcher.unobserve(node); if (window.Plotly && node.data) window.Plotly.purge(node); }
    drawn = [];
    seen = isDarkNow();
    root.replaceChildren();
    if (!value) return;
    if (value.message) root.append(el("p", { class: "an-message", role: "status", dir: "auto" }, value.message));
    for (const exhibit of value.exhibits || []) root.append(block(exhibit));
  }

  const restyle = () => { if (value && isDarkNow() !== seen) show(value); };
  new MutationObserver(restyle).observe(document.body, { attributes: true, attributeFilter: ["class"] });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", restyle);
  return { show };
}

function shellWord(word) {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}
