// Exhibits as a page shows them: title, reading, figure, table, downloads. Serves the app and the report.
//
// mountExhibits(root, { plotly, onPoint, onFold, source }) -> { show(value), add(exhibits), fold(name, folded) }
//   plotly    async function that returns Plotly
//   onPoint   function(exhibit name, point), called when a point is chosen; absent in the report
//   onFold    function(exhibit name, folded), called when a reader folds a figure; absent where none can be folded
//   source    function that names the runs, for the title of exported figures
// value.dark says which colours stand for which on a dark page.
//
// Titles, readings, cells: all untrusted text, so they enter the page as text nodes only. Labels inside figures were
// escaped where the figures were made (analysis/exhibit.py).

import { clamp, h, saveFile, textScale } from "./dom.js";

// What a spreadsheet would take for a formula gets an apostrophe before it.
function csvCell(value) {
  if (value === null || value === undefined) return "";
  if (typeof value !== "string") return String(value);
  const safe = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
  return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

function toCsv(table) {
  return [table.columns, ...table.rows].map((row) => `${row.map(csvCell).join(",")}\n`).join("");
}

function cellText(value, column) {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number" || Number.isInteger(value)) return String(value);
  if (/^p_/.test(column) && value < 0.001) return "< 0.001";
  return Math.abs(value) >= 100 ? value.toFixed(1) : value.toFixed(Math.abs(value) < 10 ? 3 : 2);
}

// The first sentence stands; where more than a line follows, it is folded.
function readingOf(text) {
  const end = text.search(/\. (?=\S)/) + 1;
  if (!end || text.length - end < 160) return h("p", { class: "an-reading", dir: "auto" }, text);
  return h(
    "div",
    { class: "an-reading" },
    h("p", { dir: "auto" }, text.slice(0, end)),
    h("details", {}, h("summary", {}, "All of it in words"), h("p", { dir: "auto" }, text.slice(end + 1))),
  );
}

const SHOWN_ROWS = 400;
const LEAST_WIDE_PX = 260; // of a figure with letters of the usual size: on a phone its letters cannot grow to twice that

function tableOf(table, caption) {
  const head = table.columns.map((name) => h("th", { scope: "col" }, name.replaceAll("_", " ")));
  const rows = table.rows.slice(0, SHOWN_ROWS).map((row) =>
    h(
      "tr",
      {},
      row.map((value, i) =>
        h(
          "td",
          {
            class: typeof value === "number" ? "an-number" : String(value ?? "").length > 40 ? "an-words" : "",
            dir: "auto",
          },
          cellText(value, table.columns[i]),
        ),
      ),
    ),
  );
  const left = table.rows.length - rows.length;
  return h(
    "div",
    { class: "an-scroll", tabindex: "0", role: "region", "aria-label": caption },
    h("table", {}, h("thead", {}, h("tr", {}, head)), h("tbody", {}, rows)),
    left > 0 ? h("p", { class: "an-note" }, `${left} more rows are in the CSV.`) : null,
  );
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
    if (title)
      axis.title = {
        ...axis.title,
        text: name.startsWith("x") ? inLines(title, 24, 4) : title,
        font: { ...(axis.title.font || {}), size: 11 },
      };
    if (name.startsWith("y") && axis.ticktext) {
      axis.ticktext = axis.ticktext.map((text) => inLines(text, 26, 3));
      if (axis.ticktext.some((text) => text.split("<br>").length > 2)) layout.height += 8 * axis.ticktext.length;
    }
    if (name.startsWith("x") && axis.ticktext && axis.ticktext.length > 5) {
      // upright: one line each
      axis.ticktext = axis.ticktext.map((text) => shortLabel(text.replaceAll("<br>", " "), 22));
      axis.tickangle = 90;
    }
  }
}

// A long legend and upright labels grow the figure: they do not eat its plot.
function makeRoom(data, layout, columns) {
  if (layout.meta && layout.meta.panels) return;
  const entries =
    layout.showlegend === false ? 0 : data.filter((trace) => trace.name && trace.showlegend !== false).length;
  const upright = layout.xaxis && layout.xaxis.tickangle === 90 ? 60 : 0;
  layout.height = (layout.height || 380) + 18 * Math.max(0, Math.ceil(entries / columns) - 2) + upright;
}

// Letters of the size that the reader has set, and a figure that is higher in the same measure.
function enlarge(data, layout, scale) {
  const grow = (part) => {
    for (const [name, inner] of Object.entries(part || {})) {
      if (/font$/.test(name) && inner && inner.size > 0) inner.size *= scale;
      else if (inner && typeof inner === "object" && !ArrayBuffer.isView(inner)) grow(inner);
    }
  };
  grow(layout);
  for (const trace of data) grow({ textfont: trace.textfont, colorbar: (trace.marker || trace).colorbar });
  layout.height = Math.round((layout.height || 380) * scale);
}

function stackPanels(layout, count) {
  const height = 90 + 190 * count;
  const gap = 60 / height;
  const high = (1 - gap * (count - 1)) / count;
  const titles = { x: "", y: "" };
  for (const [name, axis] of Object.entries(layout))
    if (/^[xy]axis/.test(name) && axis.title && axis.title.text) titles[name[0]] = axis.title.text;
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
  const letters = text.match(/&[a-z0-9#]+;|./gsu) || [];
  return letters.length <= limit ? text : `${letters.slice(0, limit - 1).join("")}…`;
}

export function mountExhibits(root, options) {
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
    const wide = entry.node.clientWidth || 1000;
    const scale = clamp(wide / LEAST_WIDE_PX, 1, Math.max(1, textScale()));
    const narrow = wide / scale < 520;
    if (narrow) makeNarrow(data, layout);
    makeRoom(data, layout, narrow ? 1 : 3);
    if (scale > 1) enlarge(data, layout, scale);
    // Plotly's own bar would also offer to send the data to a service: only these buttons are ours to give.
    await Plotly.newPlot(entry.node, data, layout, {
      displaylogo: false,
      responsive: true,
      showSendToCloud: false,
      plotlyServerURL: "",
      displayModeBar: narrow || scale > 1 ? false : "hover", // over the legend when letters are large
      modeBarButtons: [["toImage", "zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d"]],
      toImageButtonOptions: { filename: entry.exhibit.name, scale: 2 },
    });
    if (options.onPoint) {
      entry.node.on("plotly_click", (event) => {
        const point = event.points.map((p) => p.customdata).find((data) => typeof data === "string");
        if (point) options.onPoint(entry.exhibit.name, point);
      });
    }
  }

  // Figures are drawn when they come into sight: sixteen at once would hold up the first one.
  const watcher = new IntersectionObserver(
    (entries) => {
      for (const { isIntersecting, target } of entries) {
        const entry = drawn.find(({ node }) => node === target);
        if (isIntersecting && entry)
          draw(entry).catch((error) => {
            target.textContent = `This figure could not be drawn: ${error.message}`;
          });
      }
    },
    { rootMargin: "300px" },
  );

  async function save(entry, format) {
    const Plotly = await options.plotly();
    const { data, layout } = themed(entry.exhibit.figure);
    makeRoom(data, layout, 3);
    const source = options.source ? options.source() : "";
    const title = escaped(`${entry.exhibit.title}${source ? ` · ${source}` : ""}`);
    const margin = { ...(layout.margin || {}), t: Math.max(80, ((layout.margin || {}).t || 40) + 40) };
    await Plotly.downloadImage(
      { data, layout: { ...layout, margin, title: { text: title, x: 0, xref: "container", font: { size: 15 } } } },
      {
        format,
        filename: entry.exhibit.name,
        width: 1000,
        height: (layout.height || 400) + 40,
        scale: format === "png" ? 2 : 1,
      },
    );
  }

  // The points of a figure as a list of buttons: what the mouse reaches, the keyboard reaches.
  function pointList(exhibit) {
    const found = exhibit.figure.data
      .flatMap((trace) =>
        (trace.customdata || []).map((point, i) => ({
          point,
          name: trace.name || "",
          x: (trace.x || [])[i],
          y: (trace.y || [])[i],
        })),
      )
      .filter(({ point }) => typeof point === "string");
    if (!found.length) return null;
    const shown = (value) => (typeof value === "number" ? cellText(value, "") : String(value ?? ""));
    const fold = h("details", {}, h("summary", {}, "Points as a list: choose one to list its traces"));
    fold.addEventListener("toggle", () => {
      if (!fold.open || fold.childNodes.length > 1) return;
      fold.append(
        h(
          "div",
          { class: "an-points" },
          found
            .slice(0, 120)
            .map(({ point, name, x, y }) =>
              h(
                "button",
                { type: "button", dir: "auto", onclick: () => options.onPoint(exhibit.name, point) },
                `${plain(name)} ${plain(shown(x))}: ${plain(shown(y))}`,
              ),
            ),
        ),
      );
    });
    return fold;
  }

  function block(exhibit) {
    const node = exhibit.figure
      ? h("div", { class: "an-figure", role: "figure", "aria-label": `${exhibit.title}. ${exhibit.reading}` })
      : null;
    const entry = { exhibit, node, done: false };
    if (node) {
      node.style.minHeight = `${exhibit.figure.layout.height || 380}px`;
      drawn.push(entry);
      watcher.observe(node);
    }
    const filled = exhibit.table.rows.length > 0;
    const button = (text, work, title) => h("button", { type: "button", title, onclick: work }, text);
    const body = `exhibit-${exhibit.name}-body`;
    return h(
      "section",
      {
        class: `an-exhibit${node || filled ? "" : " an-empty"}`,
        id: `exhibit-${exhibit.name}`,
        "data-exhibit": exhibit.name,
      },
      h(
        "header",
        {},
        h(
          "h3",
          { dir: "auto" },
          options.onFold
            ? h(
                "button",
                {
                  type: "button",
                  class: "an-toggle",
                  "aria-expanded": "true",
                  "aria-controls": body,
                  onclick: (event) => {
                    const folded = event.currentTarget.getAttribute("aria-expanded") === "true";
                    fold(exhibit.name, folded);
                    options.onFold(exhibit.name, folded);
                  },
                },
                exhibit.title,
              )
            : exhibit.title,
        ),
        h(
          "div",
          { class: "an-actions" },
          exhibit.paper ? h("span", { class: "an-paper" }, `paper: ${exhibit.paper}`) : null,
          node
            ? [
                button("PNG", () => save(entry, "png"), "Download the figure as PNG"),
                button("SVG", () => save(entry, "svg"), "Download the figure as SVG"),
              ]
            : null,
          filled
            ? button(
                "CSV",
                () => saveFile(`${exhibit.name}.csv`, "text/csv", toCsv(exhibit.table)),
                "Download the table behind it as CSV",
              )
            : null,
        ),
      ),
      readingOf(exhibit.reading),
      h(
        "div",
        { class: "an-body", id: body },
        node,
        h(
          "div",
          { class: "an-folds" },
          node && options.onPoint ? pointList(exhibit) : null,
          filled
            ? h(
                "details",
                { open: !node },
                h("summary", {}, `Table (${exhibit.table.rows.length} rows)`),
                tableOf(exhibit.table, `Table of: ${exhibit.title}`),
              )
            : null,
          exhibit.notes.length || exhibit.command.length
            ? h(
                "details",
                {},
                h("summary", {}, "How it is made"),
                h(
                  "ul",
                  {},
                  exhibit.notes.map((note) => h("li", { dir: "auto" }, note)),
                ),
                exhibit.command.length
                  ? h(
                      "p",
                      { class: "an-note" },
                      "Again, from the shell: ",
                      h("code", {}, exhibit.command.map(shellWord).join(" ")),
                    )
                  : null,
              )
            : null,
        ),
      ),
    );
  }
  // Show an exhibit by its title and reading alone, or whole.
  function fold(name, folded) {
    const body = root.querySelector(`#exhibit-${name}-body`);
    if (!body) return;
    body.hidden = folded;
    body.parentNode.querySelector(".an-toggle").setAttribute("aria-expanded", String(!folded));
  }

  function show(next) {
    value = next;
    for (const { node } of drawn) {
      watcher.unobserve(node);
      if (window.Plotly && node.data) window.Plotly.purge(node);
    }
    drawn = [];
    seen = isDarkNow();
    root.replaceChildren();
    if (!value) return;
    if (value.message) root.append(h("p", { class: "an-message", role: "status", dir: "auto" }, value.message));
    for (const exhibit of value.exhibits || []) root.append(block(exhibit));
  }
  function add(exhibits) {
    value = { ...value, exhibits: [...(value.exhibits || []), ...exhibits] };
    for (const exhibit of exhibits) root.append(block(exhibit));
  }

  // Printed, nothing comes into sight: what is folded is opened and all figures are drawn first.
  let opened = [];
  window.addEventListener("beforeprint", () => {
    opened = [...root.querySelectorAll(".an-exhibit:not(.an-empty)[hidden], .an-body[hidden]")];
    for (const part of opened) part.hidden = false;
    for (const entry of drawn)
      draw(entry).catch((error) => {
        entry.node.textContent = `This figure could not be drawn: ${error.message}`;
      });
  });

  window.addEventListener("afterprint", () => {
    for (const part of opened) part.hidden = true;
    opened = [];
  });

  const restyle = () => {
    if (value && isDarkNow() !== seen) show(value);
  };
  new MutationObserver(restyle).observe(document.body, { attributes: true, attributeFilter: ["class"] });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", restyle);
  return { show, add, fold };
}

function shellWord(word) {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

// Labels of figures hold entities (analysis/exhibit.py); titles that this script adds are escaped the same way.
const escaped = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
const plain = (text) =>
  text
    .replace(/<br>/g, " ")
    .replace(/&lt;/g, "<")
    .replace(/&gt;/g, ">")
    .replace(/&quot;/g, '"')
    .replace(/&#x27;/g, "'")
    .replace(/&amp;/g, "&");
