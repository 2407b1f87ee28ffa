// @ts-check
// The stage: the clip once, with its true sounds, its spectrogram, a row of attention for each arm and one cursor through
// all. It knows time; what is chosen in a trace is told to it as a row of a picture (`show`), and it tells what was chosen.

import { TimeAxis } from "./axis.js";
import { pictureOf } from "./arrays.js";
import { RAMPS, isDark, rampCss, watchTheme } from "./colours.js";
import {
  clamp,
  h,
  icon,
  iconButton,
  interval,
  percent,
  refill,
  saveFile,
  seconds,
  takesText,
  textScale,
} from "../../analysis/view/dom.js";
import { fromLabels, toLabels } from "./labels.js";
import { makeLane } from "./lane.js";
import { Player } from "./player.js";
import { watchPointer } from "./pointer.js";
import { drawDrops, drawPicture, drawWave, heatPicture, melPicture } from "./tracks.js";
import { LETTERS, ownColour, shareText } from "./words.js";

const PASSAGE_PX = 18;
const WORD_PX = 4;
const ARM_PX = 18;

/**
 * @param {{ changed: (events: any[]) => void, event: (event: any) => void, opinion: (event: any) => void, passage: (arm: number, passage: number) => void, word: (arm: number, word: number) => void, frame: (time: number, playing: boolean) => void, settings: () => void, problem: (text: string) => void, editable: boolean, windows?: number, occlude?: (arm: number) => void }} hooks
 */
export function makeStage(hooks) {
  const axis = new TimeAxis();
  const player = new Player();
  /** What the stage shows. `rows` is null (one row an arm), "passages" or "words". @type {{ mode: "raw" | "length", clean: boolean, view: number, rows: null | "passages" | "words" }} */
  const settings = { mode: "raw", clean: false, view: 0, rows: null };
  /** @type {any} */
  let doc = null;
  /** @type {string | null} */
  let clipKey = null;
  let opinionKey = "";
  /** @type {number[]} */
  let colours = [];
  /** @type {any} */
  let mel = null;
  let dark = false;
  /** @type {{ node: any, gutter: any, plot: any, canvas: any, off: any, mark: any, shown: any, needs: any }[]} */
  let arms = [];
  /** @type {[number, number] | null} */
  let range = null;
  let frameId = 0;
  const modeKey = () => settings.mode + (settings.clean ? "_clean" : "");

  // ---- elements ---------------------------------------------------------------------------------------------------
  const playButton = iconButton("play", "Play (Space)", { class: "mp-primary", onclick: () => toggle() });
  const clock = h("span", { class: "mp-clock" }, "");
  const rangeText = h("span", { class: "mp-range" }, "");
  const loopButton = iconButton("loop", "Loop the selected stretch, or all (L)", {
    "aria-pressed": "false",
    onclick: () => setLoop(!player.loop),
  });
  const rowsMenu = h(
    "select",
    {
      "aria-label": "Rows of attention",
      onchange: () => {
        settings.rows = rowsMenu.value === "one" ? null : rowsMenu.value;
        rebuild();
        hooks.settings();
      },
    },
    [
      ["one", "One row an arm"],
      ["passages", "All passages"],
      ["words", "Single words"],
    ].map(([value, text]) => h("option", { value }, text)),
  );
  const modeMenu = h(
    "select",
    {
      "aria-label": "Attention as",
      onchange: () => {
        settings.mode = modeMenu.value;
        rebuild();
        hooks.settings();
      },
    },
    h("option", { value: "raw" }, "Share on the sound"),
    h("option", { value: "length" }, "Against an even spread"),
  );
  const more = h(
    "details",
    { class: "mp-menu" },
    h(
      "summary",
      { class: "mp-button mp-square", title: "More", "aria-label": "More settings of the stage" },
      icon("more"),
    ),
    h("div", { class: "mp-menu-box" }),
  );
  const laneNode = h("div", { class: "mp-plot mp-lane" });
  const laneRow = h(
    "div",
    { class: "mp-row mp-row-lane" },
    h("div", { class: "mp-gutter" }, h("span", {}, "in the clip")),
    laneNode,
  );
  const [spectrum, wave] = [
    h("canvas", { role: "img", "aria-label": "Spectrogram of the clip, 0 to 8 kHz" }),
    h("canvas", { "aria-hidden": "true", class: "mp-wave" }),
  ];
  const soundRow = h(
    "div",
    { class: "mp-row mp-row-sound" },
    h("div", { class: "mp-gutter" }, h("span", {}, "sound"), h("small", {}, "0–8 kHz")),
    h("div", { class: "mp-plot" }, spectrum, wave),
  );
  const armRows = h("div", { class: "mp-arm-rows" });
  const opinionNode = h("div", { class: "mp-plot mp-lane" });
  const opinionMenu = h(
    "details",
    { class: "mp-menu mp-opinion-menu" },
    h(
      "summary",
      { title: "What a tagger found: a machine’s opinion" },
      h("span", {}, "tagger"),
      h("small", {}, "an opinion"),
    ),
    h("div", { class: "mp-menu-box" }),
  );
  const opinionRow = h(
    "div",
    { class: "mp-row mp-row-lane mp-row-opinion", hidden: true },
    h("div", { class: "mp-gutter" }, opinionMenu),
    opinionNode,
  );
  const axisPlot = h("div", { class: "mp-plot mp-axis", "aria-hidden": "true" });
  const cursor = h("div", { class: "mp-cursor" });
  const hover = h("div", { class: "mp-hover-line" });
  const rangeNode = h("div", { class: "mp-range-box" });
  const bands = h("div", { class: "mp-bands" });
  const pad = h(
    "div",
    {
      class: "mp-pad",
      tabindex: 0,
      role: "slider",
      "aria-label": "Position in the clip. Arrows seek, Space plays, L loops, plus and minus zoom.",
      "aria-valuemin": 0,
      "aria-valuenow": 0,
    },
    bands,
    rangeNode,
    cursor,
    hover,
  );
  const tip = h("div", { class: "mp-tip", "aria-hidden": "true" });
  const body = h(
    "div",
    { class: "mp-tracks" },
    laneRow,
    h("div", { class: "mp-pad-rows" }, soundRow, armRows, pad),
    opinionRow,
    h("div", { class: "mp-row" }, h("div", { class: "mp-gutter" }), axisPlot),
    tip,
  );
  const extra = h("div", { class: "mp-stage-extra" });
  const bar = h(
    "div",
    { class: "mp-stage-bar" },
    playButton,
    clock,
    loopButton,
    iconButton("minus", "Zoom out (−)", { onclick: () => axis.zoom(1 / 1.6, player.time) }),
    iconButton("plus", "Zoom in (+)", { onclick: () => axis.zoom(1.6, player.time) }),
    rangeText,
    h("span", { class: "mp-spring" }),
    extra,
    rowsMenu,
    modeMenu,
    more,
  );
  const info = h("div", { class: "mp-chosen", "aria-live": "polite" });
  const node = h(
    "section",
    { class: "mp-stage", "aria-label": "The sound, and where each arm listened" },
    bar,
    body,
    info,
  );

  const lane = makeLane(laneNode, axis, {
    changed: (events) => hooks.changed(events),
    select: (event) => {
      setRange(event.onset_s, event.offset_s);
      hooks.event(event);
    },
    play: (start, stop) => play(start, stop),
    seek: (time) => seek(time),
    editable: () => hooks.editable,
  });
  const opinionLane = makeLane(opinionNode, axis, {
    changed: (events, touched) =>
      takeOver(
        events.filter((event) => !event.unsure || event === touched),
        touched,
      ),
    opinion: true,
    select: (event) => {
      setRange(event.onset_s, event.offset_s);
      hooks.opinion(event);
    },
    play: (start, stop) => play(start, stop),
    seek: (time) => seek(time),
    editable: () => hooks.editable,
  });
  /** What the tagger found becomes the visitor's own list: all of it where that is empty, else the one that was touched. @param {any[]} events @param {any} touched */
  function takeOver(events, touched) {
    const own = lane.get();
    const plain = (/** @type {any} */ { label, onset_s, offset_s }) => ({ label, onset_s, offset_s });
    const taken = own.length ? [...own, ...(touched ? [plain(touched)] : [])] : events.map(plain);
    lane.set(taken);
    showOpinion();
    hooks.changed(taken);
    if (touched) lane.focus(touched);
    else opinionMenu.querySelector("summary").focus();
  }
  function showOpinion() {
    const { opinion } = doc;
    opinionRow.hidden = !opinion;
    if (!opinion) return;
    opinionLane.set([
      ...opinion.events.map((/** @type {any} */ event, /** @type {number} */ index) => ({
        ...event,
        index: doc.truth ? undefined : index,
      })),
      ...opinion.unsure.map((/** @type {any} */ event) => ({ ...event, unsure: true })),
    ]);
    refill(
      opinionMenu.querySelector(".mp-menu-box"),
      h("p", { class: "mp-note" }, opinion.note),
      h(
        "p",
        { class: "mp-note" },
        opinion.events.length || opinion.unsure.length
          ? "Dashed sounds with “?” it is not sure of."
          : "It finds no sound in this clip.",
      ),
      hooks.editable
        ? h(
            "p",
            { class: "mp-actions" },
            h(
              "button",
              {
                type: "button",
                class: "mp-button",
                disabled: !opinion.events.length,
                onclick: () => {
                  opinionMenu.open = false;
                  lane.set([]);
                  takeOver(opinion.events, null);
                },
              },
              "Take it as my list, and correct it",
            ),
          )
        : null,
    );
  }

  // ---- drawing ----------------------------------------------------------------------------------------------------
  let queued = false;
  function redraw() {
    if (queued) return;
    queued = true;
    requestAnimationFrame(() => {
      queued = false;
      drawAll();
    });
  }
  function drawAll() {
    if (!doc || !node.isConnected) return;
    axis.width = pad.clientWidth || 1;
    const now = isDark(node);
    if (now !== dark || (doc.clip.mel && !mel)) {
      dark = now;
      mel = doc.clip.mel ? melPicture(doc.clip.mel, dark) : null;
      arms.forEach((arm) => {
        arm.off = null;
      });
    }
    if (doc.clip.mel) drawPicture(spectrum, mel, doc.clip.mel.start_s, doc.clip.mel.column_s, axis, true);
    drawWave(
      wave,
      player.buffer && player.buffer.getChannelData(0),
      player.buffer ? player.buffer.sampleRate : 1,
      axis,
      getComputedStyle(node).getPropertyValue("--mp-wave"),
    );
    arms.forEach((arm, index) => {
      if (!arm.off) arm.off = armPicture(index);
      drawPicture(
        arm.canvas,
        arm.off,
        0,
        doc.arms[index].attention ? doc.arms[index].attention.column_s : 1,
        axis,
        false,
      );
      if (arm.needs)
        drawDrops(
          arm.needs.querySelector("canvas"),
          doc.arms[index].occlusion,
          axis,
          getComputedStyle(arm.needs).getPropertyValue("--mp-own"),
        );
    });
    const half = 1.4 * parseFloat(getComputedStyle(axisPlot).fontSize); // of the widest label, as "10.5 s"
    refill(
      axisPlot,
      axis
        .ticks()
        .map((t) => ({ t, x: axis.x(t) }))
        .filter(({ x }) => x > half && x < axis.width - half)
        .map(({ t, x }) => h("span", { style: { left: `${x}px` } }, `${t} s`)),
    );
    placeRange();
    placeBands();
    placeCursor();
  }
  /** The picture of an arm's rows: all of them, or the one that is shown. @param {number} index */
  function armPicture(index) {
    const { attention } = doc.arms[index];
    if (!attention || !attention.whole || !doc.scales) return null;
    const key = modeKey();
    if (settings.rows) {
      const pictures =
        settings.rows === "words"
          ? attention.words
          : attention.views[Math.min(settings.view, attention.views.length - 1)].pictures;
      if (!pictures) return null;
      const picture = pictureOf(pictures, key);
      return heatPicture(
        picture,
        Array.from({ length: picture.rows }, (_, i) => i),
        doc.scales[settings.rows][key],
        dark,
      );
    }
    const shown = arms[index].shown;
    const pictures = !shown
      ? attention.whole
      : shown.word !== undefined
        ? attention.words
        : attention.views[0].pictures;
    const picture = pictureOf(pictures, key);
    const row = !shown ? 0 : shown.word !== undefined ? shown.word : shown.passage;
    return row < picture.rows
      ? heatPicture(picture, [row], doc.scales[shown && shown.word !== undefined ? "words" : "passages"][key], dark)
      : null;
  }
  /** @param {number} index */
  function rowCount(index) {
    const { attention } = doc.arms[index];
    if (!attention || !attention.whole || !settings.rows) return 1;
    return settings.rows === "words"
      ? Math.max(1, doc.arms[index].words.length)
      : Math.max(1, attention.passages.length);
  }
  function rebuild() {
    node.classList.toggle("mp-tall", settings.rows !== null && doc.arms.length > 0);
    for (const control of [extra, rowsMenu, modeMenu]) control.hidden = !doc.arms.length; // nothing listened yet
    rowsMenu.value = settings.rows || "one";
    modeMenu.value = settings.mode;
    const kept = arms.map(({ shown }) => shown);
    arms = doc.arms.map((/** @type {any} */ arm, /** @type {number} */ index) => {
      const count = rowCount(index);
      const high =
        settings.rows === "passages"
          ? PASSAGE_PX * count * textScale()
          : settings.rows === "words"
            ? clamp(WORD_PX * count, 40, 420)
            : ARM_PX * textScale();
      const canvas = h("canvas", {
        role: "img",
        "aria-label": `Attention of ${LETTERS[index]} over the clip. ${arm.attention ? arm.attention.summary[settings.mode] : ""}`,
      });
      const mark = h("div", { class: "mp-row-mark" });
      const empty =
        arm.attention && arm.attention.whole
          ? null
          : h(
              "span",
              { class: "mp-empty" },
              doc.status === "running"
                ? "comes when the trace is finished"
                : arm.attention
                  ? "only each word's share was kept"
                  : "attention was not recorded",
            );
      const plot = h("div", { class: "mp-plot", style: { height: `${high}px` } }, canvas, mark, empty);
      const passages = settings.rows === "passages" && arm.attention ? arm.attention.passages : [];
      const view = arm.attention && arm.attention.views[Math.min(settings.view, arm.attention.views.length - 1)];
      const gutter = h(
        "div",
        { class: "mp-gutter" },
        passages.length
          ? passages.map((/** @type {any} */ passage, /** @type {number} */ row) =>
              h(
                "button",
                {
                  type: "button",
                  class: `mp-row-label mp-kind-${passage.kind}`,
                  "data-passage": row,
                  "data-arm": index,
                  "aria-pressed": "false",
                  title: `${LETTERS[index]}, ${passage.name}: ${shareText(view.shares[settings.mode][row], settings.mode)}`,
                },
                h("span", {}, `${LETTERS[index]} ${passage.short}`),
                h("small", {}, shareText(view.shares[settings.mode][row], settings.mode)),
              ),
            )
          : h(
              "span",
              {},
              h("b", { class: "mp-letter mp-small-letter" }, LETTERS[index]),
              h("span", { class: "mp-listened" }, " listened"),
            ),
      );
      return {
        node: h("div", { class: "mp-row", style: ownColour(colours[index] || 0), "data-arm": index }, gutter, plot),
        gutter,
        plot,
        canvas,
        off: null,
        mark,
        shown: kept[index] || null,
        needs: arm.occlusion ? needsRow(arm.occlusion, index) : null,
      };
    });
    refill(
      armRows,
      arms.map((arm) => [arm.node, arm.needs]),
    );
    fillMore();
    redraw();
    markRows();
  }
  /** The row of an occlusion: which windows of the clip the answer of an arm needs. @param {any} track @param {number} index */
  const needsRow = (track, index) =>
    h(
      "div",
      { class: "mp-row mp-row-needs", style: ownColour(colours[index] || 0), title: track.summary },
      h(
        "div",
        { class: "mp-gutter" },
        h(
          "span",
          {},
          h("b", { class: "mp-letter mp-small-letter" }, LETTERS[index]),
          h("span", { class: "mp-listened" }, " needs"),
        ),
      ),
      h(
        "div",
        { class: "mp-plot" },
        h("canvas", { role: "img", "aria-label": `Occlusion of ${LETTERS[index]}. ${track.summary}` }),
      ),
    );
  /** Buttons that ask which windows of the clip an answer needs. */
  const occlusionButtons = () =>
    hooks.windows && hooks.occlude && doc.arms.length && doc.status !== "running"
      ? h(
          "p",
          { class: "mp-actions" },
          h("span", {}, "Occlude the sound for the answer of"),
          doc.arms.map((/** @type {any} */ arm, /** @type {number} */ index) =>
            h(
              "button",
              {
                type: "button",
                class: "mp-button",
                disabled: !arm.text,
                title: `${hooks.windows} windows of silence, one after the other: ${(hooks.windows || 0) + 1} passes`,
                "aria-label": `Occlusion of ${LETTERS[index]}: ${(hooks.windows || 0) + 1} passes`,
                onclick: () => {
                  closeMore();
                  if (hooks.occlude) hooks.occlude(index);
                },
              },
              LETTERS[index],
            ),
          ),
        )
      : null;
  function fillMore() {
    const records = doc.arms
      .map((/** @type {any} */ arm) => arm.attention)
      .filter((/** @type {any} */ a) => a && a.whole);
    const views = records.length
      ? records
          .map((/** @type {any} */ a) => a.views.map((/** @type {any} */ v) => v.label))
          .sort((/** @type {any} */ a, /** @type {any} */ b) => a.length - b.length)[0]
      : [];
    const sinks = records.some((/** @type {any} */ a) => a.sinks.length);
    const scale =
      records.length && doc.scales ? doc.scales[settings.rows === "words" ? "words" : "passages"][modeKey()] : 0;
    const viewMenu = h(
      "select",
      {
        onchange: () => {
          settings.view = viewMenu.selectedIndex;
          settings.rows = settings.rows || "passages";
          rebuild();
        },
      },
      views.map((/** @type {string} */ label, /** @type {number} */ i) =>
        h("option", { value: i, selected: i === settings.view }, label),
      ),
    );
    const file = h("input", {
      type: "file",
      accept: ".txt,text/plain",
      class: "mp-hidden",
      tabindex: -1,
      "aria-hidden": "true",
      onchange: async () => {
        if (file.files[0]) readLabels(await file.files[0].text());
        file.value = "";
      },
    });
    refill(
      more.querySelector(".mp-menu-box"),
      views.length > 1 ? h("label", {}, h("span", {}, "Layers and heads"), viewMenu) : null,
      sinks
        ? h(
            "label",
            { class: "mp-check" },
            h("input", {
              type: "checkbox",
              checked: settings.clean,
              onchange: (/** @type {any} */ e) => {
                settings.clean = e.target.checked;
                rebuild();
                hooks.settings();
              },
            }),
            h("span", {}, "Hide moments that always draw attention"),
          )
        : h(
            "p",
            { class: "mp-note", hidden: !doc.arms.length },
            records.length ? "No moment draws attention at every word." : "No attention was recorded.",
          ),
      records.length
        ? h(
            "p",
            { class: "mp-scale" },
            h("span", {}, "0"),
            h("i", { style: { background: rampCss(RAMPS[dark ? "dark" : "light"].heat) } }),
            h("span", {}, settings.mode === "raw" ? percent(scale, 2) : shareText(scale, "length")),
            h(
              "small",
              {},
              settings.mode === "raw"
                ? "of a word's attention on 40 ms of sound; one scale for all arms"
                : "times an even spread; one scale for all arms",
            ),
          )
        : null,
      occlusionButtons(),
      h(
        "p",
        { class: "mp-actions" },
        hooks.editable
          ? [
              h(
                "button",
                {
                  type: "button",
                  class: "mp-button",
                  onclick: () => {
                    closeMore();
                    lane.addAt(player.time);
                  },
                },
                "Mark a sound here",
              ),
              h("button", { type: "button", class: "mp-button", onclick: () => file.click() }, "Read Audacity labels"),
              file,
            ]
          : null,
        h(
          "button",
          {
            type: "button",
            class: "mp-button",
            onclick: () => saveFile("sounds.txt", "text/plain", toLabels(lane.get())),
          },
          "Save Audacity labels",
        ),
      ),
    );
  }
  const closeMore = () => {
    more.open = false;
  };
  /** @param {string} text */
  function readLabels(text) {
    const { events, problems } = fromLabels(text, axis.duration);
    closeMore();
    if (problems.length) hooks.problem(problems.slice(0, 3).join(" "));
    if (events.length) {
      lane.set(events);
      hooks.changed(events);
    }
  }

  // ---- the cursor and the range -----------------------------------------------------------------------------------
  function placeCursor() {
    const time = player.time;
    cursor.style.transform = `translateX(${axis.x(time)}px)`;
    const text = `${time.toFixed(1)} / ${seconds(axis.duration)}`;
    if (clock.textContent === text) return;
    clock.textContent = text;
    pad.setAttribute("aria-valuenow", time.toFixed(2));
    pad.setAttribute("aria-valuetext", `${time.toFixed(1)} seconds`);
  }
  function placeRange() {
    rangeNode.style.display = range ? "block" : "none";
    if (!range) {
      rangeText.textContent = "";
      return;
    }
    rangeNode.style.transform = `translateX(${axis.x(range[0])}px)`;
    rangeNode.style.width = `${Math.max(1, axis.x(range[1]) - axis.x(range[0]))}px`;
    rangeText.textContent = interval(range[0], range[1]);
  }
  /** @type {[number, number][]} */
  let shownBands = [];
  function placeBands() {
    refill(
      bands,
      shownBands.map(([from, to]) =>
        h("i", { style: { left: `${axis.x(from)}px`, width: `${Math.max(2, axis.x(to) - axis.x(from))}px` } }),
      ),
    );
  }
  /** @param {number | null} from @param {number} [to] */
  function setRange(from, to) {
    range = from === null || to === undefined ? null : [Math.min(from, to), Math.max(from, to)];
    placeRange();
  }
  /** @param {boolean} on */
  function setLoop(on) {
    if (on && !range) setRange(0, axis.duration);
    player.setLoop(on && range ? { start: range[0], stop: range[1] } : null);
    loopButton.setAttribute("aria-pressed", String(Boolean(player.loop)));
    if (player.loop && !player.playing) player.play();
    run();
  }
  /** @param {number} time */
  function seek(time) {
    player.seek(clamp(time, 0, axis.duration));
    everyFrame();
  }
  function toggle() {
    if (player.playing) player.pause();
    else player.play();
    run();
  }
  /** @param {number} start @param {number} [stop] */
  function play(start, stop) {
    if (player.loop) {
      player.setLoop(null);
      loopButton.setAttribute("aria-pressed", "false");
    }
    if (start < axis.t0 || start > axis.t1)
      axis.set(start - (axis.t1 - axis.t0) / 4, start + (3 * (axis.t1 - axis.t0)) / 4);
    player.play(clamp(start, 0, Math.max(0, axis.duration - 0.05)), stop);
    run();
  }
  function everyFrame() {
    player.check();
    placeCursor();
    hooks.frame(player.time, player.playing);
  }
  function frame() {
    frameId = 0;
    if (!node.isConnected) {
      player.pause();
      return;
    } // taken out of the page: a sound must not go on without its player
    everyFrame();
    showPlaying();
    if (player.playing) run();
  }
  function run() {
    if (!frameId) frameId = requestAnimationFrame(frame);
  }
  let playingShown = false;
  function showPlaying() {
    if (playingShown === player.playing) return;
    playingShown = player.playing;
    refill(playButton, icon(playingShown ? "pause" : "play"));
    playButton.setAttribute("aria-label", playingShown ? "Pause (Space)" : "Play (Space)");
  }
  for (const name of ["play", "pause", "ended", "seeked"]) player.audio.addEventListener(name, run);

  watchPointer(pad, axis, {
    click: (t, event) => {
      setRange(null);
      if (player.loop) setLoop(false);
      const at = rowAt(event);
      if (at && settings.rows === "passages") hooks.passage(at.arm, at.row);
      else if (at && settings.rows === "words") hooks.word(at.arm, at.row);
      seek(t);
      if (!player.playing) play(t);
    },
    select: (from, to) => setRange(from, to),
    selected: () => {
      if (!range) return;
      if (player.loop) {
        player.setLoop({ start: range[0], stop: range[1] });
        run();
      } else play(range[0], range[1]);
    },
    hover: (t, event) => {
      hover.style.display = t === null ? "none" : "block";
      tip.textContent = "";
      if (t === null || !event) return;
      hover.style.transform = `translateX(${axis.x(t)}px)`;
      const at = rowAt(event);
      if (!at || !settings.rows) return;
      const { attention, words, text } = doc.arms[at.arm];
      const pictures =
        settings.rows === "words"
          ? attention.words
          : attention.views[Math.min(settings.view, attention.views.length - 1)].pictures;
      const picture = pictureOf(pictures, modeKey());
      const column = clamp(Math.floor(t / attention.column_s), 0, picture.columns - 1);
      const name =
        settings.rows === "words"
          ? `“${Array.from(text).slice(words[at.row][0], words[at.row][1]).join("")}”`
          : attention.passages[at.row].name;
      tip.textContent = `${LETTERS[at.arm]} · ${name} · ${t.toFixed(2)} s · ${settings.mode === "raw" ? percent(picture.at(at.row, column), 2) : shareText(picture.at(at.row, column), "length")}`;
    },
  });
  /** Which row of which arm a pointer is on. @param {PointerEvent} event */
  function rowAt(event) {
    for (let index = 0; index < arms.length; index += 1) {
      const box = arms[index].plot.getBoundingClientRect();
      if (event.clientY >= box.top && event.clientY < box.bottom && arms[index].off)
        return {
          arm: index,
          row: clamp(Math.floor(((event.clientY - box.top) / box.height) * rowCount(index)), 0, rowCount(index) - 1),
        };
    }
    return null;
  }
  /** Keys of the stage; also asked for keys that nothing else took. True where it was one. @param {KeyboardEvent} event */
  function onKey(event) {
    if (takesText(event.target) || event.ctrlKey || event.metaKey || event.altKey || !doc) return false;
    const onControl = event.target instanceof Element && /^(BUTTON|SUMMARY|A|INPUT)$/.test(event.target.tagName);
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (event.key === " " && !onControl) toggle();
    else if (step && !onControl) seek(player.time + step * (event.shiftKey ? 1 : 0.1));
    else if (event.key === "Home" && event.target === pad) seek(0);
    else if (event.key === "End" && event.target === pad) seek(axis.duration);
    else if (event.key === "+" || event.key === "=") axis.zoom(1.6, player.time);
    else if (event.key === "-") axis.zoom(1 / 1.6, player.time);
    else if (event.key === "l") setLoop(!player.loop);
    else if (event.key === "m" && hooks.editable) lane.addAt(player.time);
    else if (event.key === "Escape" && (range || player.loop || more.open)) {
      closeMore();
      setRange(null);
      setLoop(false);
    } else return false;
    event.preventDefault();
    return true;
  }
  node.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    if (onKey(event)) event.stopPropagation();
  });
  for (const menu of [more, opinionMenu]) {
    document.addEventListener("pointerdown", (event) => {
      if (menu.open && event.target instanceof Node && !menu.contains(event.target)) menu.open = false;
    });
    menu.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
      if (event.key === "Escape") {
        menu.open = false;
        menu.querySelector("summary").focus();
        event.stopPropagation();
      }
    });
  }
  axis.onChange(redraw);
  new ResizeObserver(() => {
    if (pad.clientWidth) {
      axis.width = pad.clientWidth;
      axis.emit();
    }
  }).observe(pad);
  watchTheme(node, () => {
    arms.forEach((arm) => {
      arm.off = null;
    });
    if (doc) {
      fillMore();
      redraw();
    }
  });

  function loadSound() {
    const uri = typeof doc.clip.audio === "string" && doc.clip.audio.startsWith("data:audio/") ? doc.clip.audio : "";
    playButton.disabled = !uri;
    loopButton.disabled = !uri;
    player.load(uri).then(redraw, redraw);
  }

  // ---- rows that are chosen ---------------------------------------------------------------------------------------
  function markRows() {
    arms.forEach((arm, index) => {
      const row =
        settings.rows && arm.shown ? (settings.rows === "words" ? arm.shown.words : arm.shown.passages) : null;
      const count = rowCount(index);
      arm.mark.style.display = row ? "block" : "none";
      if (row) {
        arm.mark.style.top = `${(100 * row[0]) / count}%`;
        arm.mark.style.height = `${(100 * (row[1] - row[0])) / count}%`;
      }
      arm.gutter.querySelectorAll("[data-passage]").forEach((/** @type {any} */ button) => {
        const n = Number(button.dataset.passage);
        button.setAttribute(
          "aria-pressed",
          String(Boolean(arm.shown && arm.shown.passages && n >= arm.shown.passages[0] && n < arm.shown.passages[1])),
        );
      });
    });
  }

  return {
    node,
    extra,
    info,
    player,
    axis,
    settings,
    seek,
    play,
    toggle,
    onKey,
    setRange,
    /** Which sounds are lit, by number. @param {(index: number) => boolean} test */
    light(test) {
      for (const one of [lane, opinionLane]) one.light((event) => event.index !== undefined && test(event.index));
    },
    pause: () => player.pause(),
    loadSound,
    /** Rows of an arm to show: { passage?, word?, passages?: [from, to], words?: [from, to] } or null. @param {number} arm @param {any} shown */
    show(arm, shown) {
      if (!arms[arm]) return;
      const before = arms[arm].shown;
      arms[arm].shown = shown;
      if (!settings.rows && (!before || !shown || before.word !== shown.word || before.passage !== shown.passage)) {
        arms[arm].off = null;
        redraw();
      }
      markRows();
    },
    /** Times that are marked through all tracks. @param {[number, number][]} next */
    band(next) {
      shownBands = next;
      placeBands();
    },
    rebuild() {
      if (doc) rebuild();
    },
    /** @param {any} next a comparison document @param {number[]} hues places of its arms in the palette */
    set(next, hues) {
      doc = next;
      colours = hues;
      const key = `${doc.clip.digest} ${doc.clip.seconds}`;
      if (key !== clipKey) {
        clipKey = key;
        mel = null;
        range = null;
        shownBands = [];
        axis.open(doc.clip.seconds);
        pad.setAttribute("aria-valuemax", String(doc.clip.seconds));
        loadSound();
        this.setEvents(doc.truth ? doc.truth.events : []);
      } else if (doc.truth && !lane.get().length) this.setEvents(doc.truth.events); // the server knows this sound
      lane.number(doc.truth && doc.truth.events ? doc.truth.events : []);
      soundRow.hidden = !doc.clip.mel;
      const heard = JSON.stringify(doc.opinion || null) + Boolean(doc.truth);
      if (heard !== opinionKey) {
        opinionKey = heard;
        showOpinion();
      }
      rebuild();
    },
    /** Other true sounds of the same clip. @param {any[]} events */
    setEvents(events) {
      lane.set(events.map((event, index) => ({ ...event, index })));
    },
  };
}
