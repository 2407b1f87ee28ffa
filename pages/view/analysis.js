// @ts-check
// The Analysis tab: a bar with one choice, a short summary, contents, figures, the items behind them, and one item beside.

import { mountExhibits } from "../../analysis/view/exhibits.js";
import { address, setAddress } from "./address.js";
import { inputOf } from "./upload.js";
import { mountComparison } from "./comparison.js";
import { h, iconButton, percent, plural, refill, signed } from "../../analysis/view/dom.js";

const ROWS = 100; // of the item table at once
const ROOM_PX = 1500; // for the figures of a group; what goes beyond is folded, so that a group has three screens at most
const LONGEST_WAIT_MS = 20_000;

/** @param {any} root @param {{ setup: any, home: string, trigger: (name: string, data?: any) => void }} app */
export function mountAnalysis(root, app) {
  const { setup } = app;
  if (!document.getElementById("an-style")) {
    const style = document.createElement("style");
    style.id = "an-style";
    style.textContent = setup.styles;
    document.head.append(style);
  }
  const query = address();
  /** One choice for all figures. @type {any} */
  const choice = {
    runs: query.getAll("run").filter((name) => setup.runs.includes(name)),
    mine: false,
    arms: query.has("arm") ? query.getAll("arm") : null,
    metric: query.get("metric") || setup.metric,
    binning: "count",
    bins: 8,
    length: "tokens",
    outcome: "all",
    filters: {},
  };
  if (!choice.runs.length && setup.first) choice.runs = [setup.first];
  /** @type {any} */
  let value = null;
  /** The group that the address names, by its own name or by that of a figure. */
  const groupNamed = (/** @type {string | null} */ name) =>
    (setup.groups.find((/** @type {any} */ [, names]) => names.includes(name)) || [name || setup.groups[0][0]])[0];
  let group = groupNamed(query.get("figure"));
  /** Whether a figure is folded, as the visitor chose. @type {Map<string, boolean>} */
  const folded = new Map();
  let number = 0;
  let sent = 0; // number of the choice that the server draws
  let sentAt = 0;
  let opened = false;
  let mine = "";
  /** @type {{ rows: Set<number>, title: string } | null} */
  let behind = null; // a point of a figure: the table shows its items alone
  let order = { by: "id", up: true };
  let shownRows = ROWS;

  // ---- the bar ------------------------------------------------------------------------------------------------------
  const runMenu = h("div", { class: "an-checks" });
  const runs = h(
    "details",
    { class: "mp-menu" },
    h("summary", { class: "mp-button" }, "Runs"),
    h("div", { class: "mp-menu-box" }, runMenu),
  );
  const file = h("input", {
    type: "file",
    accept: ".zip,.jsonl",
    class: "mp-hidden",
    id: "run-file-input",
    tabindex: -1,
    "aria-label": "Your own run",
    onchange: () => {
      if (file.files[0]) send(file.files[0]);
      file.value = "";
    },
  });
  const armChips = h("div", { class: "an-arms", role: "group", "aria-label": "Arms, the first as the baseline" });
  const armMenu = h("div", { class: "an-checks" });
  const metric = h(
    "select",
    {
      "aria-label": "Metric",
      title: "Metric",
      onchange: () => {
        choice.metric = metric.value;
        ask();
      },
    },
    setup.metrics.map((/** @type {string[]} */ [name, label, meaning]) =>
      h("option", { value: name, title: meaning, selected: name === choice.metric }, label),
    ),
  );
  const filterBox = h("div", { class: "mp-menu-box an-filters" });
  const filters = h(
    "details",
    { class: "mp-menu" },
    h("summary", { class: "mp-button" }, "Group and filter"),
    filterBox,
  );
  const note = h("div", { class: "an-run-note", id: "run-note", role: "status" });
  const bar = h(
    "div",
    { class: "an-bar" },
    runs,
    iconButton(
      "up",
      "Your own run",
      {
        onclick: () => file.click(),
        title: "A zip of a run's folder, or its items.jsonl. Uploaded files are only read, and gone after an hour.",
      },
      true,
    ),
    file,
    armChips,
    h(
      "details",
      { class: "mp-menu" },
      h("summary", { class: "mp-button", title: "Choose arms" }, "Arms"),
      h("div", { class: "mp-menu-box" }, armMenu),
    ),
    metric,
    filters,
  );
  // ---- the page -----------------------------------------------------------------------------------------------------
  const summary = h("div", { class: "an-summary", "aria-live": "polite" });
  const contents = h("nav", { class: "an-contents", "aria-label": "Contents" });
  const figures = h("div", { class: "an-view", id: "figures" });
  const training = h("div", { class: "an-view", id: "training" });
  const trainingBar = h("div", { class: "an-training-bar" });
  const paper = h("div", { class: "an-view", id: "paper" });
  const emptyLine = h("details", { class: "an-missing", hidden: true });
  const waiting = h("p", { class: "mp-note", role: "status", hidden: true }, "Drawing the figures …");
  const items = h("section", { class: "an-items", "aria-label": "Items" });
  const side = h("aside", { class: "an-side", hidden: true, "aria-label": "One item" });
  const sideView = h("div", { class: "an-side-view" });
  const main = h("div", { class: "an-main" }, waiting, figures, emptyLine, trainingBar, training, paper, items);
  root.classList.add("mp-app");
  root.replaceChildren(bar, note, summary, h("div", { class: "an-page" }, contents, main, side));
  // What sticks below the bar, and what is scrolled to, must know how high it is: chips of many arms take several lines.
  new ResizeObserver(() => root.style.setProperty("--an-bar", `${bar.offsetHeight}px`)).observe(bar);
  /** @type {Promise<any> | null} */
  let loaded = null;
  function plotly() {
    if (!loaded) {
      loaded = new Promise((done, fail) => {
        const script = document.createElement("script");
        script.src = `${app.home}/${setup.plotly}`;
        script.onload = () => done(/** @type {any} */ (window).Plotly);
        script.onerror = () => fail(new Error("Plotly could not be loaded"));
        document.head.append(script);
      });
    }
    return loaded;
  }
  const options = { plotly, source: () => (value ? value.source : "") };
  const onFold = (/** @type {string} */ name, /** @type {boolean} */ on) => folded.set(name, on);
  /** Fold what would make a group too long, unless the visitor chose otherwise. @param {any} drawn @param {any[]} exhibits @param {number} [columns] */
  function foldBeyond(drawn, exhibits, columns = 1) {
    let used = 0;
    exhibits.forEach((exhibit, place) => {
      used += ((exhibit.figure ? exhibit.figure.layout.height || 380 : 300) + 150) / columns;
      drawn.fold(exhibit.name, folded.get(exhibit.name) ?? (place >= columns && used > ROOM_PX));
    });
  }
  const drawing = mountExhibits(figures, {
    ...options,
    onPoint: (/** @type {string} */ name, /** @type {string} */ point) =>
      app.trigger("select", { ...choice, mine: choice.mine, name, point }),
    onFold,
  });
  const drawnTraining = mountExhibits(training, { ...options, onFold });
  const drawnPaper = mountExhibits(paper, options);
  /** Places of the opened item's arms among the chosen ones. @type {number[]} */
  let places = [];
  const comparison = mountComparison(sideView, { start: "", colours: () => places });

  // ---- choosing -----------------------------------------------------------------------------------------------------
  function ask() {
    number += 1;
    behind = null;
    root.setAttribute("aria-busy", "true");
    main.classList.add("an-old");
    setAddress({
      run: choice.runs.length === 1 && choice.runs[0] === setup.first ? [] : choice.runs,
      arm: choice.arms || [],
      metric: choice.metric === setup.metric ? null : choice.metric,
    });
    if (!sent || performance.now() - sentAt > LONGEST_WAIT_MS) submit(); // else what is asked last is sent when the answer is here
  }
  function submit() {
    sent = number;
    sentAt = performance.now();
    app.trigger("apply", { ...choice, number });
  }
  function drawBar() {
    runs.querySelector("summary").textContent =
      choice.mine && !choice.runs.length
        ? mine
        : choice.runs.length === 1 && !choice.mine
          ? choice.runs[0]
          : plural(choice.runs.length + (choice.mine ? 1 : 0), "run");
    refill(
      runMenu,
      setup.runs.map((/** @type {string} */ name) =>
        check(name, choice.runs.includes(name), (on) => {
          choice.runs = on ? [...choice.runs, name] : choice.runs.filter((/** @type {string} */ one) => one !== name);
          choice.arms = null;
          choice.filters = {};
          ask();
        }),
      ),
      mine
        ? check(mine, choice.mine, (on) => {
            choice.mine = on;
            choice.arms = null;
            ask();
          })
        : null,
    );
    const chosen = value ? value.chosen || [] : [];
    refill(
      armChips,
      chosen.map((/** @type {string} */ arm, /** @type {number} */ i) =>
        h(
          "span",
          { class: "an-chip", dir: "auto" },
          h("i", { class: `an-colour an-colour-${i}`, "aria-hidden": "true" }),
          arm,
          iconButton("close", `Leave out ${arm}`, {
            class: "an-small",
            onclick: () => {
              choice.arms = chosen.filter((/** @type {string} */ one) => one !== arm);
              ask();
            },
          }),
        ),
      ),
    );
    const all = value ? value.arms || [] : [];
    refill(
      armMenu,
      all.map((/** @type {string} */ arm) =>
        check(
          arm,
          chosen.includes(arm),
          (on) => {
            choice.arms = on ? [...chosen, arm] : chosen.filter((/** @type {string} */ one) => one !== arm);
            ask();
          },
          !chosen.includes(arm) && chosen.length >= setup.most_arms,
        ),
      ),
      all.length > setup.most_arms
        ? h(
            "p",
            { class: "mp-note" },
            `Figures draw ${setup.most_arms} arms at most; figures about controls, forced lengths and seeds choose their own.`,
          )
        : null,
    );
    const levels = value ? value.levels || {} : {};
    const menu = (/** @type {string} */ label, /** @type {string} */ key, /** @type {string[][]} */ entries) =>
      h(
        "label",
        {},
        h("span", {}, label),
        h(
          "select",
          {
            onchange: (/** @type {any} */ event) => {
              choice[key] = event.target.value;
              ask();
            },
          },
          entries.map(([name, text]) => h("option", { value: name, selected: choice[key] === name }, text)),
        ),
      );
    refill(
      filterBox,
      menu("Length", "length", setup.lengths),
      menu("Bins", "binning", setup.binnings),
      h(
        "label",
        {},
        h("span", {}, "How many bins at most"),
        h("input", {
          type: "number",
          min: 2,
          max: 20,
          value: choice.bins,
          onchange: (/** @type {any} */ event) => {
            choice.bins = Math.max(2, Math.min(20, Math.round(Number(event.target.value) || 8)));
            ask();
          },
        }),
      ),
      menu("Answers", "outcome", setup.outcomes),
      setup.filters.map((/** @type {string} */ name) =>
        (levels[name] || []).length > 1
          ? h(
              "fieldset",
              {},
              h("legend", {}, name.charAt(0).toUpperCase() + name.slice(1)),
              levels[name].map((/** @type {string} */ level) =>
                check(level, (choice.filters[name] || []).includes(level), (on) => {
                  const before = choice.filters[name] || [];
                  choice.filters = {
                    ...choice.filters,
                    [name]: on ? [...before, level] : before.filter((/** @type {string} */ one) => one !== level),
                  };
                  ask();
                }),
              ),
            )
          : null,
      ),
    );
  }
  /** @param {string} label @param {boolean} checked @param {(on: boolean) => void} change @param {boolean} [disabled] */
  function check(label, checked, change, disabled) {
    return h(
      "label",
      { class: "mp-check" },
      h("input", {
        type: "checkbox",
        checked,
        disabled,
        onchange: (/** @type {any} */ event) => change(event.target.checked),
      }),
      h("span", { dir: "auto" }, label),
    );
  }
  function drawSummary() {
    refill(
      summary,
      (value.summary || []).map((/** @type {any} */ line) =>
        h(
          "p",
          {},
          h("b", {}, line.metric),
          h("span", { dir: "auto" }, ` ${line.base} `),
          h("strong", {}, percent(line.value)),
          line.arms.map((/** @type {any} */ arm) =>
            h(
              "span",
              { class: "an-gap", dir: "auto" },
              ` · ${arm.arm} `,
              h("strong", {}, percent(arm.value)),
              arm.difference === null
                ? null
                : h(
                    "span",
                    {
                      class: !arm.clear ? "an-unclear" : arm.difference > 0 ? "an-clear" : "an-clear an-worse",
                    },
                    ` ${signed(100 * arm.difference)}${arm.low === null ? "" : ` (${signed(100 * arm.low)} to ${signed(100 * arm.high)})`}, ${arm.clear ? "clear" : "not clear"}`,
                  ),
            ),
          ),
        ),
      ),
      (value.summary || []).some((/** @type {any} */ line) => line.arms.length)
        ? h(
            "p",
            { class: "mp-note", dir: "auto" },
            `Differences in points from ${value.summary[0].base}, with 95 % intervals. Clear: the interval leaves out 0.`,
          )
        : null,
    );
  }
  function drawContents() {
    const known = new Set((value ? value.exhibits : []).map((/** @type {any} */ exhibit) => exhibit.name));
    const listed = new Set(setup.groups.flatMap((/** @type {any} */ [, names]) => names));
    const others = [...known].filter((name) => !listed.has(name));
    const groups = [
      ...setup.groups,
      ...(others.length ? [["More", others]] : []),
      ["Items", []],
      ["Training", []],
      ["The paper", []],
    ];
    if (!groups.some(([name]) => name === group)) group = setup.groups[0][0];
    const names = new Set((groups.find(([name]) => name === group) || [null, []])[1]);
    const isMeasured = group !== "Training" && group !== "The paper";
    const empty = value
      ? value.exhibits.filter((/** @type {any} */ exhibit) => !exhibit.figure && !exhibit.table.rows.length)
      : [];
    const here = value
      ? value.exhibits.filter((/** @type {any} */ exhibit) => names.has(exhibit.name) && !empty.includes(exhibit))
      : [];
    refill(
      contents,
      h(
        "ul",
        {},
        groups.map(([name]) =>
          h(
            "li",
            {},
            h(
              "button",
              { type: "button", "aria-current": name === group ? "true" : null, onclick: () => openGroup(name, true) },
              name,
            ),
            name === group && here.length > 1
              ? h(
                  "ul",
                  { "aria-label": `Figures of ${name}` },
                  here.map((/** @type {any} */ exhibit) =>
                    h(
                      "li",
                      {},
                      h(
                        "button",
                        { type: "button", dir: "auto", onclick: () => openFigure(exhibit.name, true) },
                        exhibit.title,
                      ),
                    ),
                  ),
                )
              : null,
          ),
        ),
      ),
    );
    foldBeyond(drawing, here);
    figures.querySelectorAll(".an-exhibit").forEach((/** @type {any} */ node) => {
      node.hidden =
        !names.has(node.dataset.exhibit) || empty.some((/** @type {any} */ e) => e.name === node.dataset.exhibit);
    });
    const missing = empty.filter((/** @type {any} */ exhibit) => names.has(exhibit.name));
    emptyLine.hidden = !isMeasured || !missing.length;
    refill(
      emptyLine,
      h("summary", {}, `Not in this run: ${missing.map((/** @type {any} */ exhibit) => exhibit.title).join(" · ")}`),
      missing.map((/** @type {any} */ exhibit) =>
        h("p", { class: "an-note", dir: "auto" }, `${exhibit.title}: ${exhibit.reading}`),
      ),
    );
    figures.hidden = !isMeasured || group === "Items";
    waiting.hidden = figures.hidden || here.length > 0 || Boolean(value && value.whole);
    items.hidden = !isMeasured;
    training.hidden = trainingBar.hidden = group !== "Training";
    paper.hidden = group !== "The paper";
    summary.hidden = bar.hidden = !isMeasured;
    root.querySelector(".an-page").classList.toggle("an-alone", !isMeasured);
  }
  /** Show a figure of the group, whole and in sight. @param {string} name @param {boolean} step */
  function openFigure(name, step) {
    folded.set(name, false);
    drawing.fold(name, false);
    if (step) setAddress({ figure: name }, true);
    const node = figures.querySelector(`#exhibit-${name}`);
    if (!node) return;
    node.scrollIntoView({ block: "start" });
    const title = node.querySelector("button");
    if (step && title) title.focus({ preventScroll: true });
  }
  /** @param {string} name @param {boolean} step @param {string | null} [figure] of the group, which the address names */
  function openGroup(name, step, figure = null) {
    group = name;
    setAddress({ figure: figure || (name === setup.groups[0][0] ? null : name) }, step);
    drawContents();
    const current = contents.querySelector("[aria-current]");
    if (step && current) current.focus();
    const asks = { Training: training, "The paper": paper }[name];
    if (asks && !asks.childNodes.length) {
      refill(asks, h("p", { class: "mp-note", role: "status" }, "Drawing the figures …"));
      if (asks === paper) app.trigger("collapse", choice);
      else app.trigger("expand", { recipes: null, window: 5 });
    }
  }
  // ---- items --------------------------------------------------------------------------------------------------------
  let opener = ""; // id of the item at the side
  const search = h("input", {
    type: "search",
    placeholder: "Search questions and ids",
    "aria-label": "Search items",
    oninput: () => {
      shownRows = ROWS;
      drawRows();
    },
  });
  const show_ = h("select", {
    "aria-label": "Which items",
    onchange: () => {
      shownRows = ROWS;
      drawRows();
    },
  });
  const behindChip = h("span", {});
  const countText = h("span", { class: "mp-note", role: "status" });
  const head = h("thead", {});
  const body = h("tbody", {});
  const moreRows = h(
    "button",
    {
      type: "button",
      class: "mp-button",
      onclick: () => {
        shownRows += ROWS;
        drawRows();
      },
    },
    "Show more",
  );
  refill(
    items,
    h("div", { class: "an-items-bar" }, h("h3", {}, "Items"), search, show_, behindChip, countText),
    h(
      "div",
      { class: "an-scroll", tabindex: 0, role: "region", "aria-label": "Table of items" },
      h("table", {}, head, body),
    ),
    moreRows,
  );
  function drawItems() {
    const { arms } = value.items || { arms: [] };
    const wanted = show_.value;
    const entries = [
      ["all", "All items"],
      ...(((value.items || {}).sound || []).length ? [["s", "With sound and heatmaps"]] : []),
      ...arms.flatMap((/** @type {string} */ arm, /** @type {number} */ i) => [
        [`w${i}`, `${arm} wrong`],
        [`r${i}`, `${arm} right`],
      ]),
    ];
    for (let i = 0; i < arms.length; i += 1)
      for (let j = 0; j < arms.length; j += 1)
        if (i !== j) entries.push([`d${i},${j}`, `${arms[i]} right, ${arms[j]} wrong`]);
    refill(
      show_,
      entries.map(([name, text]) => h("option", { value: name, selected: name === wanted }, text)),
    );
    const column = (/** @type {string} */ by, /** @type {string} */ text, classes = "") =>
      h(
        "th",
        {
          scope: "col",
          class: classes,
          "aria-sort": order.by === by ? (order.up ? "ascending" : "descending") : null,
        },
        h(
          "button",
          {
            type: "button",
            class: "an-sort",
            onclick: () => {
              order = { by, up: order.by === by ? !order.up : true };
              drawItems();
            },
          },
          text,
          order.by === by ? (order.up ? " ▴" : " ▾") : "",
        ),
      );
    refill(
      head,
      h(
        "tr",
        {},
        column("id", "Question"),
        column("level", "Kind", "an-spare"),
        arms.map((/** @type {string} */ arm, /** @type {number} */ i) => [
          column(`right${i}`, arm),
          column(`tokens${i}`, "tokens", "an-spare an-number"),
          column(`claims${i}`, "claims", "an-spare an-number"),
        ]),
      ),
    );
    drawRows();
  }
  function rowsShown() {
    const words = search.value.trim().toLowerCase();
    const filter = show_.value || "all";
    const right = (/** @type {any} */ item, /** @type {number} */ i) => (item[4][i] ? item[4][i][1] : null);
    const test = (/** @type {any} */ item) => {
      if (behind && !item[4].some((/** @type {any} */ cell) => cell && /** @type {any} */ (behind).rows.has(cell[0])))
        return false;
      if (words && !`${item[0]} ${item[1]}`.toLowerCase().includes(words)) return false;
      if (filter === "s") return value.items.sound.includes(item[0]);
      if (filter[0] === "w") return right(item, Number(filter.slice(1))) === 0;
      if (filter[0] === "r") return right(item, Number(filter.slice(1))) === 1;
      if (filter[0] === "d") {
        const [i, j] = filter.slice(1).split(",").map(Number);
        return right(item, i) === 1 && right(item, j) === 0;
      }
      return true;
    };
    const key = (/** @type {any} */ item) => {
      if (order.by === "id") return item[1] || item[0];
      if (order.by === "level") return `${item[3] || ""} ${item[2] || ""}`;
      const [, kind, place] = /** @type {any} */ (/^(right|tokens|claims)(\d+)$/.exec(order.by) || []);
      const cell = item[4][Number(place)];
      if (!cell) return -1;
      return kind === "right"
        ? (cell[1] ?? -1)
        : kind === "tokens"
          ? (cell[2] ?? -1)
          : cell[4]
            ? cell[3] / cell[4]
            : -1;
    };
    const found = value.items.items.filter(test);
    found.sort((/** @type {any} */ a, /** @type {any} */ b) => {
      const [x, y] = [key(a), key(b)];
      return (x < y ? -1 : x > y ? 1 : 0) * (order.up ? 1 : -1);
    });
    return found;
  }
  function drawRows() {
    if (!value || !value.items) return;
    const found = rowsShown();
    refill(
      behindChip,
      behind
        ? h(
            "span",
            { class: "an-chip", dir: "auto" },
            behind.title,
            iconButton("close", "Show all items", {
              class: "an-small",
              onclick: () => {
                behind = null;
                drawRows();
                search.focus();
              },
            }),
          )
        : null,
    );
    countText.textContent = `${found.length} of ${value.items.total}`;
    moreRows.hidden = found.length <= shownRows;
    const cellOf = (/** @type {any} */ cell) =>
      cell
        ? [
            h(
              "td",
              { class: cell[1] === 1 ? "an-right" : cell[1] === 0 ? "an-wrong" : "" },
              cell[1] === 1 ? "✓ right" : cell[1] === 0 ? "✗ wrong" : "–",
            ),
            h("td", { class: "an-spare an-number" }, cell[2] === null ? "–" : String(cell[2])),
            h("td", { class: "an-spare an-number" }, cell[4] ? `${cell[3]} of ${cell[4]}` : "–"),
          ]
        : [h("td", {}, "–"), h("td", { class: "an-spare" }), h("td", { class: "an-spare" })];
    refill(
      body,
      found
        .slice(0, shownRows)
        .map((/** @type {any} */ item) =>
          h(
            "tr",
            {},
            h(
              "th",
              { scope: "row" },
              h(
                "button",
                { type: "button", class: "an-item", dir: "auto", title: item[0], onclick: () => openItem(item) },
                item[1] || item[0],
              ),
            ),
            h(
              "td",
              { class: "an-spare" },
              [item[3], item[2], value.items.sound.includes(item[0]) && "sound"].filter(Boolean).join(", "),
            ),
            item[4].map(cellOf),
          ),
        ),
    );
  }
  /** @param {any} item @param {boolean} [step] */
  function openItem(item, step = true) {
    if (!side.hidden && opener === item[0]) return;
    opener = item[0];
    const rows = item[4].filter(Boolean).map((/** @type {any} */ cell) => cell[0]);
    places = item[4]
      .map((/** @type {any} */ cell, /** @type {number} */ place) => (cell ? place : -1))
      .filter((/** @type {number} */ place) => place >= 0);
    if (step) setAddress({ item: item[0] }, true);
    side.hidden = false;
    root.querySelector(".an-page").classList.add("an-with-side");
    const close = iconButton("close", "Close the item", { onclick: closeItem });
    refill(
      side,
      h("header", {}, h("h3", { tabindex: -1, dir: "auto" }, item[0], h("small", {}, ` · ${value.source}`)), close),
      sideView,
    );
    sideView.replaceChildren(h("p", { class: "mp-note" }, "Loading the traces …"));
    app.trigger("select", { runs: choice.runs, mine: choice.mine, row: rows[0], beside: rows.slice(1, 4) });
    side.querySelector("h3").focus({ preventScroll: true });
    side.scrollIntoView({ block: "nearest" });
  }
  function closeItem() {
    side.hidden = true;
    comparison.show(null);
    root.querySelector(".an-page").classList.remove("an-with-side");
    setAddress({ item: null });
    const button = Array.from(body.querySelectorAll("button")).find((/** @type {any} */ one) => one.title === opener);
    if (button) button.focus({ preventScroll: true });
    else search.focus();
  }
  side.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    if (event.key === "Escape" && !event.defaultPrevented) {
      const close = side.querySelector("header button");
      if (close) close.click();
    }
  });
  document.addEventListener("pointerdown", (event) => {
    bar.querySelectorAll("details[open]").forEach((/** @type {any} */ menu) => {
      if (event.target instanceof Node && !menu.contains(event.target)) menu.open = false;
    });
  });
  for (const menus of [bar, trainingBar])
    menus.addEventListener(
      "toggle",
      (/** @type {Event} */ event) => {
        const box = /** @type {any} */ (event.target).querySelector(".mp-menu-box");
        if (!box) return;
        box.style.left = "0"; // below its button, as far as the page has room
        const { left, right } = box.getBoundingClientRect();
        box.style.left = `${-Math.min(Math.max(0, right + 8 - document.documentElement.clientWidth), Math.max(0, left - 8))}px`;
      },
      true,
    );
  bar.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    if (event.key === "Escape")
      bar.querySelectorAll("details[open]").forEach((/** @type {any} */ menu) => {
        menu.open = false;
        menu.querySelector("summary").focus();
      });
  });
  /** @param {File} chosen */
  function send(chosen) {
    const input = inputOf("run-file");
    if (!input) return false;
    const carried = new DataTransfer();
    carried.items.add(chosen);
    input.files = carried.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
    refill(note, h("p", { class: "mp-note", dir: "auto" }, `Reading ${chosen.name} …`));
    return true;
  }

  // ---- what the server sends ----------------------------------------------------------------------------------------
  /** @param {any} next */
  function show(next) {
    if (!next) {
      if (!opened) watchOpening();
      return;
    }
    if (next.whole && next.number === sent) {
      sent = 0;
      if (next.number !== number) setTimeout(submit, 200);
    }
    if (next.number !== undefined && next.number !== number) return;
    const goesOn = value && !value.whole && next.whole && value.number === next.number && value.exhibits.length;
    const before = goesOn ? value.exhibits.length : 0;
    value = next;
    root.setAttribute("aria-busy", String(!next.whole));
    main.classList.remove("an-old");
    if (next.arms) drawBar();
    if (next.summary) drawSummary();
    else refill(summary);
    if (goesOn)
      drawing.add(next.exhibits.slice(before)); // what is drawn stays
    else drawing.show({ exhibits: next.exhibits, dark: next.dark, message: next.message });
    if (next.items) drawItems();
    drawContents();
    items.hidden = items.hidden || !next.items;
    const figure = address().get("figure");
    if (next.whole && figure && figure !== group && !namedFigure) openFigure(figure, false);
    namedFigure = namedFigure || next.whole;
    const wanted = address().get("item");
    if (next.whole && wanted && side.hidden && next.items) {
      const item = next.items.items.find((/** @type {any} */ one) => one[0] === wanted);
      if (item) openItem(item);
    }
  }
  let namedFigure = false; // that of the address is in sight: once
  function watchOpening() {
    // nothing is loaded before the tab is seen
    const watcher = new IntersectionObserver((entries) => {
      if (!opened && entries.some((entry) => entry.isIntersecting)) {
        opened = true;
        watcher.disconnect();
        drawBar();
        drawContents();
        ask();
        openGroup(group, false, address().get("figure"));
        plotly().catch(() => {});
      }
    });
    watcher.observe(root);
  }
  window.addEventListener("popstate", () => {
    const now = address();
    const figure = now.get("figure");
    const wanted = groupNamed(figure);
    if (!opened) return;
    const row = now.get("item");
    const item = value && value.items && value.items.items.find((/** @type {any} */ one) => one[0] === row);
    if (item) openItem(item, false);
    else if (!side.hidden) closeItem();
    if (wanted !== group) openGroup(wanted, false, figure);
    if (figure && figure !== wanted) openFigure(figure, false);
  });
  root.style.minHeight = "50rem";
  watchOpening();
  return {
    show,
    take: send,
    /** Items behind a point, or one item. @param {any} next */
    item(next) {
      if (!next) return;
      if (next.rows) {
        behind = { rows: new Set(next.rows), title: next.title };
        shownRows = ROWS;
        drawRows();
        items.scrollIntoView({ block: "nearest" });
        search.focus({ preventScroll: true });
      } else if (next.document) comparison.show(next.document);
      else sideView.replaceChildren(h("p", { class: "mp-note" }, "This item is not there any more."));
    },
    /** @param {any} next */
    training(next) {
      if (!next) return;
      const window_ = h("input", {
        type: "range",
        min: 1,
        max: 25,
        value: next.window,
        "aria-label": "Moving mean over logged steps",
        onchange: () => app.trigger("expand", { recipes: next.chosen, window: Number(window_.value) }),
      });
      refill(
        trainingBar,
        h(
          "details",
          { class: "mp-menu" },
          h("summary", { class: "mp-button" }, plural(next.chosen.length, "recipe")),
          h(
            "div",
            { class: "mp-menu-box" },
            h(
              "div",
              { class: "an-checks" },
              next.recipes.map((/** @type {string} */ name) =>
                check(name, next.chosen.includes(name), (on) =>
                  app.trigger("expand", {
                    recipes: on
                      ? [...next.chosen, name]
                      : next.chosen.filter((/** @type {string} */ one) => one !== name),
                    window: next.window,
                  }),
                ),
              ),
            ),
          ),
        ),
        next.chosen.map((/** @type {string} */ name) => h("span", { class: "an-chip", dir: "auto" }, name)),
        h("label", { class: "mp-check" }, h("span", {}, `Moving mean over ${plural(next.window, "step")}`), window_),
        h(
          "div",
          { id: "training-note" },
          next.left_out.map((/** @type {string} */ text) => h("p", { class: "mp-note", dir: "auto" }, text)),
        ),
      );
      drawnTraining.show(next);
      foldBeyond(drawnTraining, next.exhibits, Number.parseInt(getComputedStyle(training).columnCount, 10) || 1);
    },
    /** @param {any} next */
    paper(next) {
      if (next) drawnPaper.show(next);
    },
    /** @param {any} next */
    note(next) {
      if (!next) return;
      refill(
        note,
        h(
          "div",
          { class: next.level === "error" ? "mp-error" : "mp-ok", role: next.level === "error" ? "alert" : "status" },
          next.lines.map((/** @type {string} */ line) => h("p", { dir: "auto" }, line)),
        ),
      );
      if (next.level === "error") return;
      mine = next.name;
      Object.assign(choice, { mine: true, runs: [], arms: null, filters: {} });
      ask();
    },
  };
}
