// @ts-check
// The comparison view: one document in, the whole result out. Runs inside the app and inside the exported page.
//
// mountComparison(root, options) -> { show(doc), … }. `doc` is the comparison document (pages/document.py says what it
// holds). options: shell (async, returns the exported page with a slot for the document; absent in the export itself),
// editable and hooks of the app, names (what stands on the buttons of the head).

import {
  clamp,
  h,
  icon,
  interval,
  percent,
  plural,
  refill,
  saveFile,
  seconds,
  shorten,
  takesText,
} from "../../analysis/view/dom.js";
import { makeClock } from "./clock.js";
import { claimsBlock, opinionNote } from "./claims.js";
import { diffBlock } from "./diff.js";
import { figureOf, saveFigure } from "./figure.js";
import { litBy, wordText } from "./choosing.js";
import { makeStage } from "./stage.js";
import { resultSentence, summaryBlock } from "./summary.js";
import { traceBlock } from "./trace.js";
import {
  FATES,
  LETTERS,
  OPINIONS,
  coloursOf,
  isOpinion,
  modeName,
  ownColour,
  shareText,
  soundsOf,
  whoText,
} from "./words.js";

const SLOT = "@@MPAR2_DOCUMENT@@";

/**
 * @param {any} root
 * @param {{ shell?: () => Promise<string>, editable?: boolean, onEvents?: (events: any[]) => void, onChoice?: (choice: any) => void, onProblem?: (text: string) => void, onAct?: (name: string) => void, windows?: number, onOcclude?: (arm: number) => void, keptMinutes?: number, keepResult?: (doc: any) => Promise<string | null>, start?: string, actions?: boolean, colours?: () => number[] }} options
 */
export function mountComparison(root, options) {
  /** @type {any} */
  let doc = null;
  let running = false;
  /** @type {import("./choosing.js").Choice | null} */
  let choice = null;
  /** @type {import("./choosing.js").Choice | null} */
  let pointed = null; // stands in for the choice while it is pointed at
  /** @type {any[]} */
  let lines = [];
  /** Which traces are longer than their box, so that a button can show the rest. */
  const sizes = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      const slot = /** @type {Element} */ (target.parentElement);
      if (!slot.classList.contains("mp-whole"))
        slot.classList.toggle("mp-long", target.scrollHeight > target.clientHeight + 1);
    }
  });
  /** @type {{ trace: any, claims: any, words: any[][], lit: Set<number> }[]} */
  let arms = [];
  let shownOf = "";
  let shownArm = 0; // on narrow screens one trace stands at a time
  /** @type {number[] | null} */
  let blind = null; // order in which arms are shown under letters alone, until a vote
  const announcer = h("p", { class: "mp-hidden", role: "status" });
  const head = h("div", { class: "mp-head" });
  const summary = h("div", { class: "mp-summary-slot" });
  const tabs = h("div", { class: "mp-tabs", role: "group", "aria-label": "Arm whose trace is shown" });
  const columns = h("div", { class: "mp-arms" });
  const folds = h("div", { class: "mp-folds" });
  const opinion = h("div", { class: "mp-opinion-slot" });
  const clock = makeClock((token) => showToken(token));
  const stage = makeStage({
    changed: (events) => {
      if (options.onEvents) options.onEvents(events);
    },
    event: (event) => {
      if (event.index !== undefined && !running) choose({ arm: 0, event: event.index });
    },
    opinion: (event) => {
      if (event.index !== undefined && doc.arms.length && !running) choose({ arm: 0, event: event.index });
      sayOpinion(event);
    },
    passage: (arm, passage) => choose({ arm, passage }, false),
    word: (arm, word) => choose({ arm, word }, false),
    frame: (time, playing) => lightWords(playing ? time : null),
    settings: () => {
      drawSummary();
      mark();
    },
    problem: (text) => {
      if (options.onProblem) options.onProblem(text);
    },
    editable: Boolean(options.editable),
    windows: options.windows,
    occlude: options.onOcclude,
  });
  stage.extra.append(clock.button);
  stage.node.append(clock.row);
  /** Who stands under a letter, by name or, while names are hidden, not. @param {number} index */
  const names = (index) =>
    blind
      ? { title: `Arm ${LETTERS[index]}`, who: "" }
      : {
          title:
            doc.arms[index].name === doc.arms[0].name &&
            doc.arms.every((/** @type {any} */ a) => a.name === doc.arms[0].name) &&
            doc.arms.length === 1
              ? doc.arms[index].name
              : modeName(doc.arms[index]),
          who: doc.arms[index].name,
        };
  /** Colours of the arms; while names are hidden, of their letters. */
  const colours = () =>
    blind
      ? doc.arms.map((/** @type {any} */ _, /** @type {number} */ index) => index)
      : options.colours
        ? options.colours()
        : coloursOf(doc.arms);
  const nameOf = (/** @type {number} */ index) => {
    const { title, who } = names(index);
    return who && who !== title ? `${title}, ${who}` : title;
  };

  // ---- drawing ----------------------------------------------------------------------------------------------------
  function drawHead() {
    const { question } = doc;
    const status =
      {
        running: "Running",
        stopped: "Stopped before the end",
        error: "Failed",
        sound: "Your sound",
        done: doc.opened ? "Stored result" : doc.stored ? (doc.example ? "Example" : "From a run") : "Your result",
      }[/** @type {string} */ (doc.status)] || "";
    const answer = blind ? null : question.answer;
    const choices = question.choices.length
      ? h(
          "ol",
          { class: "mp-choices", "aria-label": "Choices" },
          question.choices.map((/** @type {string} */ text) =>
            h(
              "li",
              { class: answer === text ? "mp-right" : "" },
              answer === text ? h("span", { "aria-hidden": "true" }, "✓ ") : null,
              h("span", { dir: "auto" }, text),
              answer === text ? h("span", { class: "mp-hidden" }, " (right answer)") : null,
            ),
          ),
        )
      : answer
        ? h("p", { class: "mp-note" }, "Right answer: ", h("span", { dir: "auto" }, answer))
        : null;
    const button = (/** @type {string} */ name, /** @type {string} */ label, /** @type {string} */ title) =>
      h("button", { type: "button", class: "mp-button", "data-do": name, title }, label);
    const save =
      running || options.actions === false || !doc.arms.length
        ? null
        : h(
            "details",
            { class: "mp-menu" },
            h("summary", { class: "mp-button" }, "Save"),
            h(
              "div",
              { class: "mp-menu-box mp-menu-list" },
              doc.link && options.shell
                ? button(
                    "link",
                    "Copy link",
                    doc.clip.shareable
                      ? "Opens this clip, question and arms again"
                      : "Opens this question and these arms again; your clip is not part of this link",
                  )
                : null,
              options.keptMinutes
                ? button(
                    "result",
                    "Copy link to this result",
                    `Opens these very traces, the sound included, for whoever has the link. Kept here for ${options.keptMinutes} min.`,
                  )
                : null,
              button("png", "Picture (PNG)", "For a slide"),
              button("svg", "Picture (SVG)", "For a paper"),
              options.shell ? button("html", "Download page", "A page of its own that works without network") : null,
              button("json", "Download JSON", "The data of this comparison; “Open a result” shows it again"),
            ),
          );
    refill(
      head,
      h(
        "div",
        { class: "mp-headline" },
        h(
          "div",
          {},
          h(
            "h2",
            { dir: "auto", tabindex: -1 },
            h("span", { class: `mp-status mp-status-${doc.status}` }, status),
            " ",
            question.text || "No question",
          ),
          choices,
        ),
        h("div", { class: "mp-actions" }, blind ? voteButtons() : save),
      ),
      doc.clip.warnings.map((/** @type {string} */ warning) => h("p", { class: "mp-warning" }, warning)),
    );
  }
  function drawSummary() {
    const made = summaryBlock(doc, {
      mode: stage.settings.mode,
      running,
      names,
      colours: colours(),
      veiled: Boolean(blind),
    });
    lines = made.lines;
    refill(summary, made.node);
  }
  /** @param {number} index */
  function armBlock(index) {
    const arm = doc.arms[index];
    const { title, who } = names(index);
    const trace = h("div", { class: "mp-trace-slot" }, traceBlock(arm, running, title, Boolean(blind)));
    const whole = h(
      "button",
      {
        type: "button",
        class: "mp-button mp-whole-button",
        "aria-expanded": "false",
        onclick: () => {
          const on = trace.classList.toggle("mp-whole");
          whole.setAttribute("aria-expanded", String(on));
          whole.textContent = on ? "Fold the trace" : "Show the whole trace";
          if (!on) trace.scrollIntoView({ block: "nearest" });
        },
      },
      "Show the whole trace",
    );
    if (!running) {
      trace.append(whole);
      sizes.observe(/** @type {Element} */ (trace.firstElementChild));
    }
    const claims = h(
      "div",
      { class: "mp-claims-slot" },
      blind ? null : claimsBlock(arm, doc, options.editable ? {} : null),
    );
    arms[index] = { trace, claims, words: [], lit: new Set() };
    collectWords(index);
    return h(
      "section",
      {
        class: `mp-arm ${index === shownArm ? "mp-front" : ""} ${isNarrow(arm) ? "mp-narrow" : ""}`,
        style: ownColour(colours()[index]),
        "data-arm": index,
        "aria-label": `Trace of ${nameOf(index)}`,
      },
      h(
        "header",
        {},
        h("span", { class: "mp-letter", "aria-hidden": "true" }, LETTERS[index]),
        h("h3", { dir: "auto" }, title),
        who ? h("small", { dir: "auto" }, whoText(arm)) : null,
      ),
      trace,
      claims,
      running ? null : h("div", { class: "mp-arm-folds" }, tableTwin(arm, index), problems(arm), rawText(arm)),
    );
  }
  const isNarrow = (/** @type {any} */ arm) => arm.mode === "direct" && doc.arms.length === 3;
  /** @param {number} index */
  function collectWords(index) {
    const slot = arms[index];
    slot.words = [];
    slot.trace.querySelectorAll("[data-word]").forEach((/** @type {any} */ node) => {
      const word = Number(node.dataset.word);
      slot.words[word] = [...(slot.words[word] || []), node];
    });
  }
  /** @param {any} arm @param {number} index */
  function tableTwin(arm, index) {
    const { attention } = arm;
    if (!attention || !attention.views.length) return null;
    const { mode } = stage.settings;
    return h(
      "details",
      { class: "mp-fold" },
      h("summary", {}, "Where it listened, as a table"),
      h("p", { class: "mp-note" }, attention.summary[mode]),
      h(
        "div",
        {
          class: "mp-table-box",
          tabindex: 0,
          role: "region",
          "aria-label": `Attention of ${LETTERS[index]} as a table`,
        },
        h(
          "table",
          {},
          h(
            "thead",
            {},
            h(
              "tr",
              {},
              ["Passage", "Tokens", mode === "raw" ? "On the sound" : "Against even", "Listened most at"].map((title) =>
                h("th", { scope: "col" }, title),
              ),
            ),
          ),
          h(
            "tbody",
            {},
            attention.passages.map((/** @type {any} */ passage, /** @type {number} */ row) =>
              h(
                "tr",
                {},
                h("th", { scope: "row" }, passage.name),
                h("td", {}, `${passage.tokens[0] + 1}–${passage.tokens[1]}`),
                h("td", {}, shareText(attention.views[0].shares[mode][row], mode)),
                h(
                  "td",
                  {},
                  attention.peaks.passages[row]
                    .map((/** @type {number[]} */ [from, to, share]) => `${interval(from, to)} (${percent(share)})`)
                    .join(", ") || "–",
                ),
              ),
            ),
          ),
        ),
      ),
    );
  }
  const problems = (/** @type {any} */ arm) =>
    arm.problems.length
      ? h(
          "details",
          { class: "mp-fold" },
          h(
            "summary",
            {},
            `${plural(arm.problems.length, "place")} ${arm.problems.length === 1 ? "does" : "do"} not follow the expected format`,
          ),
          h(
            "ul",
            {},
            arm.problems.map((/** @type {string} */ text) => h("li", { dir: "auto" }, text)),
          ),
        )
      : null;
  const rawText = (/** @type {any} */ arm) =>
    arm.text
      ? h(
          "details",
          { class: "mp-fold" },
          h("summary", {}, "Text as generated"),
          h("pre", { tabindex: 0, dir: "auto" }, arm.text),
        )
      : null;
  function drawTabs() {
    refill(
      tabs,
      doc.arms.map((/** @type {any} */ _, /** @type {number} */ index) =>
        h(
          "button",
          {
            type: "button",
            class: "mp-button",
            "aria-pressed": String(index === shownArm),
            onclick: () => front(index),
          },
          `${LETTERS[index]} ${names(index).title}`,
        ),
      ),
    );
  }
  /** @param {number} index */
  function front(index) {
    shownArm = index;
    shownOf = doc.id;
    tabs
      .querySelectorAll("button")
      .forEach((/** @type {any} */ button, /** @type {number} */ i) =>
        button.setAttribute("aria-pressed", String(i === index)),
      );
    columns
      .querySelectorAll(".mp-arm")
      .forEach((/** @type {any} */ arm, /** @type {number} */ i) => arm.classList.toggle("mp-front", i === index));
  }
  function drawFolds() {
    const d = doc.decoding || {};
    const how = d.temperature > 0 ? `sampled at temperature ${d.temperature}, seed ${d.seed}` : "greedy";
    const prompts = Object.entries(doc.prompts || {})
      .map(([mode, hash]) => `${mode} ${String(hash).slice(0, 8)}`)
      .join(", ");
    const facts = [doc.clip.name, seconds(doc.clip.seconds), doc.question.domain, doc.question.difficulty]
      .filter(Boolean)
      .join(", ");
    refill(
      folds,
      running || blind ? null : diffBlock(doc),
      legend(),
      h(
        "details",
        { class: "mp-fold" },
        h("summary", {}, "Clip, credits, and how this was run"),
        h("p", { class: "mp-note", dir: "auto" }, facts),
        doc.credits ? h("p", { class: "mp-note mp-credits", dir: "auto" }, doc.credits) : null,
        h(
          "p",
          { class: "mp-note" },
          `Decoding ${how}, at most ${d.max_new_tokens} tokens. Prompts: ${prompts}. mpar2 ${doc.package}, ${doc.created}. Clip ${String(doc.clip.digest).slice(0, 12)}.`,
        ),
      ),
    );
  }
  function legend() {
    if (!doc.arms.some((/** @type {any} */ arm) => arm.cafe && arm.cafe.mentions)) return null;
    return h(
      "details",
      { class: "mp-fold" },
      h("summary", {}, "What the marks and numbers mean"),
      h(
        "dl",
        { class: "mp-legend" },
        Object.entries(doc.arms.some((/** @type {any} */ arm) => isOpinion(arm.cafe)) ? OPINIONS : FATES).map(
          ([fate, { sign, name, meaning }]) =>
            h(
              "div",
              {},
              h("dt", {}, h("span", { class: `mp-chip mp-${fate}` }, `${sign} ${name}`)),
              h("dd", {}, meaning),
            ),
        ),
        [
          [
            "share on the sound",
            "how much of a word's attention falls on the clip; the rest goes to the question and to what is written already",
          ],
          [
            "an even spread",
            "what the clip would get if attention were spread evenly over all that the word can see; 1× is no preference",
          ],
          ["claims", "one wrong use of a sound makes its claim wrong, however often it is right elsewhere"],
        ].map(([term, meaning]) => h("div", {}, h("dt", {}, term), h("dd", {}, meaning))),
      ),
    );
  }
  function full() {
    choice = pointed = null;
    arms = [];
    sizes.disconnect();
    if (!running && doc.id !== shownOf) {
      // on narrow screens the longest trace stands first
      shownOf = doc.id;
      const lengths = doc.arms.map((/** @type {any} */ arm) => arm.token_count || 0);
      shownArm = lengths.indexOf(Math.max(0, ...lengths));
    }
    shownArm = clamp(shownArm, 0, doc.arms.length - 1);
    drawHead();
    drawTabs();
    refill(
      columns,
      doc.arms.map((/** @type {any} */ _, /** @type {number} */ index) => armBlock(index)),
    );
    columns.className = `mp-arms mp-of-${doc.arms.length}`;
    columns.style.setProperty(
      "--mp-columns",
      doc.arms.map((/** @type {any} */ arm) => `minmax(0, ${isNarrow(arm) ? 0.6 : 1}fr)`).join(" "),
    );
    drawFolds();
    refill(opinion, running || blind ? null : opinionNote(doc, Boolean(options.editable)));
    stage.set(doc, colours());
    drawSummary();
    clock.set(
      running ? 0 : Math.max(0, ...doc.arms.map((/** @type {any} */ arm) => (arm.words.length ? arm.token_count : 0))),
    );
    if (!stage.node.isConnected)
      root.replaceChildren(announcer, head, summary, stage.node, opinion, tabs, columns, folds);
    mark();
  }
  function stream() {
    drawSummary();
    doc.arms.forEach((/** @type {any} */ arm, /** @type {number} */ index) => {
      const slot = arms[index];
      const old = slot.trace.firstElementChild;
      const follow = old.scrollHeight - old.scrollTop - old.clientHeight < 40;
      const top = old.scrollTop;
      refill(slot.trace, traceBlock(arm, running, names(index).title));
      const box = slot.trace.firstElementChild;
      box.scrollTop = follow ? box.scrollHeight : top;
    });
  }

  // ---- choosing ---------------------------------------------------------------------------------------------------
  /** @param {import("./choosing.js").Choice | null} next @param {boolean} [move] whether the cursor goes there */
  function choose(next, move = true) {
    if (running || !doc) return;
    clock.stop();
    choice = next;
    if (next && next.arm !== shownArm && next.event === undefined) front(next.arm);
    mark();
    if (options.onChoice) options.onChoice(choice);
    if (!next || !move || stage.player.playing) return;
    const lit = litBy(doc, next, stage.settings.mode);
    const first = next.event !== undefined || next.claim !== undefined ? lit.bands[0] || lit.heard[0] : lit.heard[0];
    if (first) stage.seek(first[0]);
  }
  /** Light all that belongs to what is chosen or pointed at. */
  function mark() {
    const shown = pointed || choice;
    const lit = shown && !running ? litBy(doc, shown, stage.settings.mode) : null;
    doc.arms.forEach((/** @type {any} */ arm, /** @type {number} */ index) => {
      const mine = lit ? lit.arms[index] : null;
      const slot = arms[index];
      if (!slot) return;
      slot.words.forEach((nodes, word) =>
        nodes.forEach((node) => {
          const on = Boolean(mine && mine.words && word >= mine.words[0] && word < mine.words[1]);
          node.classList.toggle("mp-chosen-word", on && mine !== null && mine.passage === undefined);
          node.classList.toggle("mp-within", on && mine !== null && mine.passage !== undefined);
        }),
      );
      slot.trace
        .querySelectorAll("[data-mention]")
        .forEach((/** @type {any} */ node) =>
          node.classList.toggle("mp-lit", Boolean(mine && mine.mentions.includes(Number(node.dataset.mention)))),
        );
      slot.trace
        .querySelectorAll("button[data-passage]")
        .forEach((/** @type {any} */ node) =>
          node.setAttribute("aria-pressed", String(Boolean(mine && mine.passage === Number(node.dataset.passage)))),
        );
      slot.claims.querySelectorAll("[data-claim-row]").forEach((/** @type {any} */ row) => {
        const on = Boolean(mine && mine.claims.includes(Number(row.dataset.claimRow)));
        row.classList.toggle("mp-lit", on);
        row.querySelector("button").setAttribute("aria-pressed", String(on));
      });
      const rows =
        mine && (mine.words || mine.passages)
          ? { word: mine.word, passage: mine.passage, words: mine.words, passages: mine.passages }
          : null;
      stage.show(index, rows && (rows.word !== undefined || rows.passage !== undefined) ? rows : null);
      if (lines[index]) {
        const span = mine && mine.words ? [arm.words[mine.words[0]][2], arm.words[mine.words[1] - 1][3]] : [0, 0];
        lines[index].mark(span[0], span[1]);
      }
    });
    stage.light((index) => Boolean(lit && lit.events.includes(index)));
    stage.band(lit ? lit.bands : []);
    if (pointed && choice) return; // what is said stays with what was chosen
    refill(
      stage.info,
      lit
        ? [
            h("b", { dir: "auto" }, shorten(lit.title, 60)),
            lit.text ? h("span", { dir: "auto" }, ` ${lit.text}`) : null,
            lit.heard.length
              ? [
                  h("span", {}, " listened at "),
                  lit.heard.map(([from, to, share]) =>
                    h(
                      "button",
                      {
                        type: "button",
                        class: "mp-hear",
                        "data-hear": `${from},${to}`,
                        title: `${percent(share)} of this row's attention on the sound`,
                      },
                      icon("play"),
                      interval(from, to),
                    ),
                  ),
                ]
              : null,
            pointed
              ? null
              : h(
                  "button",
                  { type: "button", class: "mp-button mp-square", "data-do": "clear", "aria-label": "Choose nothing" },
                  icon("close"),
                ),
          ]
        : [
            h(
              "span",
              { class: "mp-note" },
              running
                ? "The models are at work."
                : doc.arms.length
                  ? "Click a word, a passage, a claim or a sound to see and hear what belongs to it."
                  : "Click the sound to move the cursor, drag to select a stretch. Mark what you hear on the lane “in the clip”.",
            ),
          ],
    );
  }
  /** What the tagger says of a sound, and how far that goes. @param {any} event */
  function sayOpinion(event) {
    refill(
      stage.info,
      h("b", { dir: "auto" }, event.label),
      h(
        "span",
        {},
        ` ${interval(event.onset_s, event.offset_s)}. A machine’s opinion, ${percent(event.confidence)} sure${event.unsure ? ", so it counts neither as said rightly nor as missed" : ""}. ${event.errors ? `Measured, ${event.errors}.` : ""}`,
      ),
      options.editable ? h("span", { class: "mp-note" }, " Drag or rename it to make it yours.") : null,
    );
  }
  /** Words that listen at a time light up while the clip plays. @param {number | null} time */
  function lightWords(time) {
    if (!doc || running) return;
    doc.arms.forEach((/** @type {any} */ arm, /** @type {number} */ index) => {
      const slot = arms[index];
      if (!slot || !arm.attention) return;
      const next = new Set(
        time === null
          ? []
          : arm.attention.lights
              .filter((/** @type {number[]} */ light) => time >= light[1] && time < light[2])
              .map((/** @type {number[]} */ light) => light[0]),
      );
      for (const word of slot.lit)
        if (!next.has(word)) (slot.words[word] || []).forEach((node) => node.classList.remove("mp-listens"));
      for (const word of next)
        if (!slot.lit.has(word)) (slot.words[word] || []).forEach((node) => node.classList.add("mp-listens"));
      slot.lit = next;
    });
  }
  /** The trace as far as a token: later words are faint, the line ends there, the stage shows what is written. @param {number | null} token */
  function showToken(token) {
    if (!doc) return;
    if (token === null) {
      lines.forEach((line) => line && line.until(null));
      arms.forEach((slot) =>
        slot.words.forEach((nodes) => nodes.forEach((node) => node.classList.remove("mp-later", "mp-now"))),
      );
      mark();
      return;
    }
    doc.arms.forEach((/** @type {any} */ arm, /** @type {number} */ index) => {
      const slot = arms[index];
      let now = -1;
      arm.words.forEach((/** @type {number[]} */ span, /** @type {number} */ word) => {
        if (span[2] <= token) now = word;
      });
      const ended = arm.words.length > 0 && token >= arm.words[arm.words.length - 1][3];
      slot.words.forEach((nodes, word) =>
        nodes.forEach((node) => {
          node.classList.toggle("mp-later", word > now);
          node.classList.toggle("mp-now", word === now && !ended);
        }),
      );
      if (lines[index]) lines[index].until(token + 1);
      const passages = arm.attention
        ? arm.attention.passages.findIndex((/** @type {any} */ p) => token >= p.tokens[0] && token < p.tokens[1])
        : -1;
      stage.show(
        index,
        now < 0 || ended
          ? null
          : { word: now, words: [now, now + 1], passages: passages < 0 ? null : [passages, passages + 1] },
      );
      const node = now >= 0 && !ended ? (slot.words[now] || [])[0] : null;
      if (node) {
        const box = slot.trace.firstElementChild;
        const place = node.offsetTop - box.offsetTop;
        if (place < box.scrollTop || place > box.scrollTop + box.clientHeight - 40)
          box.scrollTop = place - box.clientHeight / 2;
      }
    });
  }

  // ---- blind mode -------------------------------------------------------------------------------------------------
  function voteButtons() {
    return [
      h("span", { class: "mp-note" }, "Who heard better?"),
      doc.arms.map((/** @type {any} */ _, /** @type {number} */ index) =>
        h("button", { type: "button", class: "mp-button", "data-vote": index }, LETTERS[index]),
      ),
      h("button", { type: "button", class: "mp-button", "data-vote": -1 }, "No difference"),
    ];
  }
  /** @param {number} index */
  function vote(index) {
    const order = /** @type {number[]} */ (blind);
    const chosen = index < 0 ? "no difference" : `${modeName(doc.arms[index])} (${doc.arms[index].name})`;
    blind = null;
    /** @type {Record<string, number>} */
    let votes = {};
    try {
      votes = JSON.parse(sessionStorage.getItem("mpar2-votes") || "{}");
    } catch {
      /* a damaged or forbidden store: count anew */
    }
    votes[chosen] = (votes[chosen] || 0) + 1;
    try {
      sessionStorage.setItem("mpar2-votes", JSON.stringify(votes));
    } catch {
      /* counted for this vote alone */
    }
    const back = { ...doc, arms: doc.arms.slice() };
    order.forEach((from, to) => {
      back.arms[from] = doc.arms[to];
    });
    show(back);
    const text = `You chose ${index < 0 ? "" : `${LETTERS[index]}: `}${chosen}. Your votes so far: ${Object.entries(
      votes,
    )
      .map(([name, count]) => `${name} ${count}×`)
      .join(", ")}.`;
    head.append(h("p", { class: "mp-votes", role: "status" }, text));
    focusHead();
  }
  function hideNames() {
    if (!doc || running || doc.arms.length < 2 || blind) return;
    const order = doc.arms.map((/** @type {any} */ _, /** @type {number} */ i) => i);
    for (let i = order.length - 1; i > 0; i -= 1) {
      const j = Math.floor(Math.random() * (i + 1));
      [order[i], order[j]] = [order[j], order[i]];
    }
    const hidden = { ...doc, arms: order.map((/** @type {number} */ i) => doc.arms[i]) };
    blind = order;
    doc = hidden;
    full();
    focusHead();
  }

  // ---- events -----------------------------------------------------------------------------------------------------
  const fileName = () => `mpar2-comparison-${String(doc.id).replace(/[^a-z0-9-]/gi, "")}`;
  /** @param {string} url @param {any} menu */
  async function copyLink(url, menu) {
    try {
      await navigator.clipboard.writeText(url);
      announcer.textContent = "Link copied.";
    } catch {
      window.prompt("Copy this link", url);
    }
    const summary = menu.querySelector("summary");
    summary.textContent = "Link copied";
    setTimeout(() => {
      summary.textContent = "Save";
    }, 2500);
  }
  /** @param {string} name @param {any} button */
  async function act(name, button) {
    const menu = button.closest("details");
    if (menu) menu.open = false;
    if (name === "clear") {
      choose(null);
      stage.node.querySelector(".mp-pad").focus({ preventScroll: true });
    } else if (name === "json") saveFile(`${fileName()}.json`, "application/json", JSON.stringify(doc, null, 1));
    else if (name === "svg" || name === "png")
      await saveFigure(figureOf(doc, stage.settings.mode, nameOf, colours()), fileName(), name);
    else if (name === "html" && options.shell) {
      const shell = await options.shell();
      const text = JSON.stringify(doc).replace(
        /[<>&\u2028\u2029]/g,
        (sign) => `\\u${sign.charCodeAt(0).toString(16).padStart(4, "0")}`,
      );
      saveFile(`${fileName()}.html`, "text/html", shell.split(SLOT).join(text));
    } else if (name === "link") {
      await copyLink(`${location.origin}${location.pathname}?${doc.link}`, menu);
    } else if (name === "result" && options.keepResult) {
      const url = await options.keepResult(doc);
      if (url) await copyLink(url, menu);
    } else if (options.onAct) options.onAct(name);
  }
  root.addEventListener("click", (/** @type {MouseEvent} */ event) => {
    if (!doc || !(event.target instanceof Element)) return;
    const target = /** @type {any} */ (
      event.target.closest("[data-do],[data-hear],[data-vote],button[data-passage],[data-claim],[data-word]")
    );
    if (!target || !root.contains(target)) return;
    const { dataset } = target;
    const owner = target.closest("[data-arm]");
    const arm = dataset.arm !== undefined ? Number(dataset.arm) : owner ? Number(owner.dataset.arm) : 0;
    if (dataset.do) act(dataset.do, target);
    else if (dataset.hear) {
      const [from, to] = dataset.hear.split(",").map(Number);
      stage.play(from, to);
    } else if (dataset.vote !== undefined) vote(Number(dataset.vote));
    else if (running) return;
    else if (dataset.passage !== undefined) choose({ arm, passage: Number(dataset.passage) });
    else if (dataset.claim !== undefined) choose({ arm, claim: Number(dataset.claim) });
    else if (dataset.word !== undefined) {
      const mention = target.closest("[data-mention]");
      choose({ arm, word: Number(dataset.word), mention: mention ? Number(mention.dataset.mention) : undefined });
    }
  });
  for (const kind of ["mouseover", "focusin"]) {
    root.addEventListener(kind, (/** @type {Event} */ event) => {
      if (!doc || running || !(event.target instanceof Element)) return;
      const item = /** @type {any} */ (event.target.closest("[data-mention],[data-claim-row],.mp-region[data-event]"));
      const owner = item && item.closest("[data-arm]");
      /** @type {any} */
      let next = null;
      if (item && kind === "mouseover") {
        if (item.dataset.mention !== undefined) {
          const word = item.querySelector("[data-word]");
          if (word)
            next = {
              arm: Number(owner.dataset.arm),
              word: Number(word.dataset.word),
              mention: Number(item.dataset.mention),
            };
        } else if (item.dataset.claimRow !== undefined)
          next = { arm: Number(owner.dataset.arm), claim: Number(item.dataset.claimRow) };
        else if (item.dataset.event !== "" && Number(item.dataset.event) < soundsOf(doc).length)
          next = { arm: 0, event: Number(item.dataset.event) };
      }
      if (JSON.stringify(next) === JSON.stringify(pointed) || clock.on) return;
      pointed = next;
      mark();
    });
  }
  root.addEventListener("mouseleave", () => {
    if (doc && pointed) {
      pointed = null;
      mark();
    }
  });
  root.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    if (!doc || !(event.target instanceof Element) || !event.target.classList.contains("mp-trace") || running) return;
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const arm = Number(/** @type {any} */ (event.target.closest("[data-arm]")).dataset.arm);
    const count = doc.arms[arm].words.length;
    if (step && count) {
      const here =
        choice && choice.arm === arm && choice.word !== undefined ? choice.word + step : step > 0 ? 0 : count - 1;
      choose({ arm, word: clamp(here, 0, count - 1) });
      const node = (arms[arm].words[clamp(here, 0, count - 1)] || [])[0];
      if (node) node.scrollIntoView({ block: "nearest" });
    } else if (event.key === "Enter" && choice) {
      const lit = litBy(doc, choice, stage.settings.mode);
      if (lit.heard[0]) stage.play(lit.heard[0][0], lit.heard[0][1]);
    } else return;
    event.preventDefault();
    event.stopPropagation();
  });
  document.addEventListener("pointerdown", (event) => {
    head.querySelectorAll("details[open]").forEach((/** @type {any} */ menu) => {
      if (event.target instanceof Node && !menu.contains(event.target)) menu.open = false;
    });
  });
  root.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    if (event.key === "Escape")
      head.querySelectorAll("details[open]").forEach((/** @type {any} */ menu) => {
        menu.open = false;
        menu.querySelector("summary").focus();
        event.stopPropagation();
      });
  });

  /** Keys that work anywhere on the page. True where it was one. @param {KeyboardEvent} event */
  function onKey(event) {
    if (!doc || takesText(event.target) || event.ctrlKey || event.metaKey || event.altKey) return false;
    if (event.key === "t") clock.toggle();
    else if (event.key === "[" || event.key === "]") clock.nudge(event.key === "]" ? 1 : -1);
    else if (/^[1-4]$/.test(event.key) && Number(event.key) <= doc.arms.length) front(Number(event.key) - 1);
    else if (event.key === "Escape" && clock.on) clock.stop();
    else if (event.key === "Escape" && choice) choose(null);
    else return stage.onKey(event);
    event.preventDefault();
    return true;
  }
  function focusHead() {
    const title = head.querySelector("h2");
    if (title) title.focus({ preventScroll: true });
  }

  /** @param {any} next */
  function show(next) {
    if (!next || !Array.isArray(next.arms)) {
      stage.pause();
      doc = null;
      root.replaceChildren(options.start ? h("p", { class: "mp-start" }, options.start) : "");
      return;
    }
    const same = doc && doc.id === next.id && running && next.status === "running" && arms.length === next.arms.length;
    if (!doc || doc.id !== next.id) blind = null;
    doc = next;
    running = doc.status === "running";
    root.setAttribute("aria-busy", String(running));
    const held = root.contains(document.activeElement);
    if (same) stream();
    else full();
    if (held && !root.contains(document.activeElement)) focusHead(); // what had it was drawn anew
    const text = running
      ? "The models are at work."
      : doc.stored || doc.opened || !doc.arms.length
        ? ""
        : `The comparison has ended. ${resultSentence(doc, nameOf)}.`;
    if (announcer.textContent !== text) announcer.textContent = text;
  }
  return {
    show,
    stage,
    /** The sound of a clip, which came after the rest. @param {any} clip @param {string} uri */
    sound(clip, uri) {
      clip.audio = uri;
      if (doc && doc.clip === clip) stage.loadSound();
    },
    /** The occlusion of an arm, as it grows. @param {number} arm @param {any} track */
    occlusion(arm, track) {
      doc.arms[arm].occlusion = track;
      stage.rebuild();
      refill(stage.info, h("b", {}, `${LETTERS[arm]} needs`), h("span", {}, ` ${track.summary}`));
    },
    choose,
    hideNames,
    onKey,
    focusHead,
    front,
    get doc() {
      return doc;
    },
    get running() {
      return running;
    },
    get choice() {
      return choice;
    },
    get blind() {
      return Boolean(blind);
    },
    sentence: () => (doc ? resultSentence(doc, nameOf) : ""),
    wordOf: (/** @type {number} */ arm, /** @type {number} */ word) => wordText(doc.arms[arm], word),
  };
}
