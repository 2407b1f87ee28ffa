// @ts-check
// The Compare tab: the form above, the comparison below, and what connects them: addresses, keys, history, what is stale.

import { address, choiceOf, choiceText, followTabs, openTab, setAddress, showTab } from "./address.js";
import { mountComparison } from "./comparison.js";
import { h, iconButton, refill, takesText } from "../../analysis/view/dom.js";
import { filesOf, inputOf } from "./upload.js";
import { makeBatch } from "./batch.js";
import { makeForm } from "./form.js";
import { fetchResult, isResult, soundFileOf, storeResult } from "./results.js";
import { decoded, record, stretchOf } from "./sound_file.js";
import { LETTERS } from "./words.js";

const KEPT = 10; // comparisons of the session
const UPLOAD_TRIES = 40; // a quarter of a second each
const START =
  "Choose an example, or bring a sound and a question. Each arm answers here, with a picture of where it listened.";
const clockTime = () => new Date().toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
const KEYS = [
  ["Space", "play or pause the sound"],
  ["← →", "seek 0.1 s, with Shift 1 s; in a trace: previous or next word"],
  ["+ −", "zoom the time axis"],
  ["L", "loop the selected stretch"],
  ["M", "mark a sound at the cursor"],
  ["T", "play the trace"],
  ["[ ]", "one token back or on"],
  ["1 … 4", "show the trace of an arm"],
  ["J K", "next or previous example"],
  ["Ctrl + Enter", "compare"],
  ["B", "hide the names until you have voted"],
  ["P", "present: large type, no form"],
  ["Esc", "choose nothing, close"],
  ["?", "this list"],
];
const TOUR = [
  [
    "What each arm says it hears",
    "One clip, one question, several answers. The cards show who is right and how many of the sounds that an arm names are really there.",
    ".mp-summary",
  ],
  [
    "Where it listens while it writes",
    "The line in each card is the share of attention on the sound, word by word. On long traces of many models it falls: audio perception decay. Below the sound a row for each arm shows when it listened.",
    ".mp-stage",
  ],
  [
    "Claim by claim",
    "Each sound that a trace names is checked against the clip. Click a word, a claim or a sound to light all that belongs to it. One clip proves nothing: the Analysis tab counts over many.",
    ".mp-arms",
  ],
];

/**
 * Moves the tab that was drawn before Gradio was there into Gradio's element, and sends what waited.
 * @type {((slot: Element, trigger: (name: string, data?: any) => void) => any) | null}
 */
let takeOver = null;

/**
 * Draw the tab before Gradio is there. Resolves when its first comparison is drawn.
 * @param {HTMLElement} place @param {any} config Gradio's, which holds the setup of the tab
 */
export async function openFirst(place, config) {
  const found = config.components.find((/** @type {any} */ one) => one.props.elem_id === "comparison");
  if (!found || (address().get("tab") || "compare") !== "compare") {
    place.remove();
    return;
  }
  const theme = address().get("__theme") || "system";
  document.body.classList.toggle(
    "dark",
    theme === "dark" || (theme !== "light" && matchMedia("(prefers-color-scheme: dark)").matches),
  );
  const root = h("div", { class: "mp-view" });
  let start = () => {};
  /** @type {Promise<void>} */
  const started = new Promise((resolve) => {
    start = resolve;
  });
  const app = {
    setup: found.props.props.setup,
    home: config.root.replace(/\/$/, ""),
    started,
    trigger: (/** @type {string} */ name, /** @type {any} */ data) => {
      started.then(() => app.trigger(name, data));
    },
  };
  /** @type {Element} */ (place.lastElementChild).append(root);
  const view = mountCompare(root, app);
  takeOver = (slot, trigger) => {
    const held = /** @type {HTMLElement | null} */ (document.activeElement);
    const parent = /** @type {any} */ (slot.parentNode);
    if (parent.moveBefore)
      parent.moveBefore(root, slot); // keeps focus and scrolling
    else parent.insertBefore(root, slot);
    slot.remove();
    place.remove();
    if (held && root.contains(held)) held.focus({ preventScroll: true });
    app.trigger = trigger;
    start();
    showTab();
    return view;
  };
  await view.ready;
}

/**
 * @param {any} root
 * @param {{ setup: any, home: string, trigger: (name: string, data?: any) => void, started?: Promise<any> }} app
 *   started: resolves when events reach the server; absent where they do already
 */
export function mountCompare(root, app) {
  if (takeOver) {
    const take = takeOver;
    takeOver = null;
    return take(root, app.trigger);
  }
  const { setup } = app;
  const result = h("div", { class: "mp-result", id: "comparison-result" });
  const stale = h(
    "div",
    { class: "mp-stale-note", role: "status", hidden: true },
    h("span", {}, "This is the earlier comparison. Press Compare for the new one."),
  );
  const history_ = h(
    "details",
    { class: "mp-menu mp-history", hidden: true },
    h("summary", { class: "mp-button" }, "History"),
    h("div", { class: "mp-menu-box mp-menu-list" }),
  );
  const dialog = h("dialog", { class: "mp-dialog", "aria-label": "Keys and help" });
  const drop = h("div", { class: "mp-drop", hidden: true, "aria-hidden": "true" }, "Drop a sound here");
  const presentBar = h(
    "div",
    { class: "mp-present-bar" },
    iconButton("previous", "Previous example (K)", { onclick: () => form.step(-1) }),
    iconButton("next", "Next example (J)", { onclick: () => form.step(1) }),
    iconButton("close", "Leave the presentation (Esc)", { onclick: () => present(false) }),
  );
  /** @type {any[]} */
  const kept = [];
  /** What the shown comparison was made of, to tell when the form asks for something else. */
  let madeOf = "";
  let number = 0; // of the last run
  let waitsFor = 0; // run whose documents are shown
  let busy = false;
  /** @type {File | null} */
  let sending = null; // on its way to the server
  /** @type {any} */
  let recording = null;
  let wanted = ""; // example that is being fetched

  const form = makeForm(setup, {
    run,
    stop: () => app.trigger("stop"),
    example: (name) => openExample(name, true),
    files: takeFiles,
    record: takeRecording,
    changed: () => {
      showStale();
      keepDraft();
    },
    help: openHelp,
    present: () => present(true),
  });
  const batch = makeBatch(setup, {
    trigger: (name, data) => app.trigger(name, data),
    started: app.started,
    values: () => form.values(),
    open: () => {
      form.openDrawer(true);
      batch.node.scrollIntoView({ block: "nearest" });
    },
    analyse: openInAnalysis,
  });
  form.drawer.append(batch.node);
  const view = mountComparison(result, {
    editable: true,
    start: START,
    shell: () => fetch(`${app.home}/${setup.shell}`).then((answer) => answer.text()),
    onEvents: (events) => {
      form.setEvents(events);
      showStale();
    },
    onProblem: (text) => form.refuse("events", text),
    onChoice: (choice) => setAddress({ pick: choiceText(choice) }),
    keptMinutes: setup.result_minutes,
    keepResult,
    windows: setup.occlusion,
    onOcclude: occlude,
    onAct: (name) => {
      form.openDrawer(true);
      const field = name === "use-judge" ? form.fields.judge : form.fields.events;
      field.focus();
      field.scrollIntoView({ block: "center" });
    },
  });
  const blindButton = h(
    "button",
    {
      type: "button",
      class: "mp-button",
      onclick: () => view.hideNames(),
      title: "Hide the names until you have voted (B)",
    },
    "Blind test",
  );
  const tools = h(
    "div",
    { class: "mp-tools", hidden: true },
    history_,
    blindButton,
    h(
      "button",
      {
        type: "button",
        class: "mp-button",
        onclick: () => form.chooseFile(),
        title: "A comparison that was saved as JSON",
      },
      "Open a result",
    ),
    h("button", { type: "button", class: "mp-button", onclick: () => tour(0) }, "Tour"),
  );
  root.classList.add("mp-app");
  root.replaceChildren(form.node, stale, result, tools, dialog, drop, presentBar);
  view.show(null);
  followTabs();

  // ---- what is asked and what is shown ------------------------------------------------------------------------------
  const fingerprint = () => {
    const { question, choices, arms, events, answer, source, example, max_new_tokens, temperature, seed, judge } =
      form.values();
    const sound = source === "example" ? example : form.state.digest;
    return JSON.stringify([
      sound,
      question,
      choices
        .split("\n")
        .map((/** @type {string} */ text) => text.trim())
        .filter(Boolean),
      arms,
      events,
      answer,
      max_new_tokens,
      temperature,
      seed,
      judge,
    ]);
  };
  function showStale() {
    tools.hidden = !view.doc;
    blindButton.hidden = !view.doc || busy || view.doc.arms.length < 2;
    const old = Boolean(view.doc) && view.doc.arms.length > 0 && !busy && madeOf !== fingerprint();
    stale.hidden = !old;
    result.classList.toggle("mp-stale", old);
  }
  /** @param {any} doc */
  function keep(doc) {
    const at = kept.findIndex(({ id }) => id === doc.id);
    if (at >= 0) kept.splice(at, 1);
    const what = doc.stored && doc.example ? "Example" : doc.opened || doc.stored ? "Stored" : clockTime();
    kept.unshift({ id: doc.id, doc, what, made: madeOf, source: { ...form.state }, values: form.values() });
    kept.splice(KEPT);
    history_.hidden = kept.length < 1;
    refill(
      history_.querySelector(".mp-menu-box"),
      kept.map((entry) =>
        h(
          "button",
          {
            type: "button",
            class: "mp-button",
            onclick: () => {
              history_.open = false;
              reopen(entry);
            },
          },
          h(
            "span",
            { dir: "auto" },
            `${entry.what} · ${entry.doc.question.text.slice(0, 60)} · ${entry.doc.clip.name.slice(0, 30)} · ${entry.doc.arms.map((/** @type {any} */ arm, /** @type {number} */ i) => `${LETTERS[i]} ${arm.correct === true ? "✓" : arm.correct === false ? "✗" : "–"}`).join(" ")}`,
          ),
        ),
      ),
    );
  }
  function reopen(/** @type {any} */ entry) {
    const card = setup.examples.find((/** @type {any} */ one) => one.name === entry.source.example);
    if (card) form.setExample(card);
    else if (entry.source.source === "none") form.setStored(entry.doc, useSound);
    else form.setClip({ ...entry.source, warnings: [] });
    form.setQuestion(entry.values.question, entry.values.choices.split("\n").filter(Boolean));
    form.setArms(entry.values.arms);
    form.fields.events.value = entry.values.events;
    form.fields.answer.value = entry.values.answer;
    form.showEvents();
    madeOf = entry.made;
    view.show(entry.doc);
    view.stage.setEvents(entry.doc.truth ? entry.doc.truth.events : []);
    madeOf = fingerprint();
    showStale();
    view.focusHead();
  }

  // ---- running ------------------------------------------------------------------------------------------------------
  function run() {
    if (busy) return;
    form.mendAll();
    const values = form.values();
    if (values.source === "none") {
      form.refuse("audio", "Choose an example, or upload or record a sound first.");
      return;
    }
    if (!values.question) {
      form.refuse("question", "Write a question first.");
      return;
    }
    const { wrong } = form.showEvents();
    if (wrong.length) {
      form.refuse("events", wrong[0]);
      return;
    }
    const options = values.choices
      .split("\n")
      .map((/** @type {string} */ text) => text.trim())
      .filter(Boolean);
    if (
      values.answer &&
      options.length &&
      !options.some((/** @type {string} */ text) => text.toLowerCase() === values.answer.toLowerCase())
    ) {
      form.refuse("answer", `“${values.answer.slice(0, 60)}” is not one of your choices.`);
      return;
    }
    number += 1;
    waitsFor = number;
    busy = true;
    madeOf = fingerprint();
    form.setRunning(true, "Waiting for its turn");
    showStale();
    view.stage.pause();
    setAddress({ pick: null, result: null });
    app.trigger("submit", { ...values, number });
    form.openDrawer(false);
    const { top } = result.getBoundingClientRect();
    if (top < 0 || top > innerHeight / 2) form.node.scrollIntoView({ block: "start" }); // with what stops the run
  }
  /** Documents of a run, or why there is none. @param {any} value */
  function show(value) {
    if (!value) return;
    if (value.refused) {
      if (value.number !== undefined && value.number !== number) return;
      busy = false;
      form.setRunning(false);
      form.refuse(value.refused.field, value.refused.message);
      madeOf = "";
      showStale();
      return;
    }
    if (!waitsFor) return;
    const ended = value.status !== "running";
    const first = !view.doc || view.doc.id !== value.id;
    view.show(value);
    if (first) view.focusHead();
    if (ended) {
      busy = false;
      form.setRunning(false);
      keep(value);
      setAddress(
        { example: value.example, q: value.question.text, choice: value.question.choices, ...armsAddress() },
        true,
      );
    } else {
      const counts = value.arms
        .map((/** @type {any} */ arm, /** @type {number} */ i) =>
          arm.stage === "done" ? `${LETTERS[i]} ✓` : arm.token_count ? `${LETTERS[i]} ${arm.token_count}` : null,
        )
        .filter(Boolean);
      form.setRunning(
        true,
        counts.length
          ? counts.join(" · ")
          : value.arms.some((/** @type {any} */ arm) => arm.stage === "loading")
            ? "Loading the model"
            : "Running",
      );
    }
    showStale();
  }
  /** Ask which windows of the clip the answer of an arm needs. @param {number} arm */
  function occlude(arm) {
    if (busy) return;
    const { id, clip: heard, example, question, arms } = view.doc;
    form.mendAll();
    busy = true;
    form.setRunning(true, `Occlusion of ${LETTERS[arm]}`);
    app.trigger("expand", {
      ...form.values(),
      ...(example ? { source: "example", example } : { source: "own" }),
      id,
      arm,
      text: arms[arm].text,
      digest: heard.digest,
      question: question.text,
      choices: question.choices.join("\n"),
      arms: [[arms[arm].name, arms[arm].mode]],
      events: "",
      answer: "",
    });
  }
  /** What it found so far. @param {any} value */
  function occlusion(value) {
    if (!value) return;
    const here = view.doc && view.doc.id === value.id;
    if (value.occlusion && here) view.occlusion(value.arm, value.occlusion);
    if (!value.ended && !value.refused) return;
    busy = false;
    form.setRunning(false);
    if (value.refused) form.refuse("run", value.refused);
    showStale();
  }
  const armsAddress = () => ({
    arm1: null,
    arm2: null,
    arm3: null,
    arm4: null,
    ...Object.fromEntries(
      form.state.arms.map((/** @type {string[]} */ arm, /** @type {number} */ i) => [`arm${i + 1}`, arm.join(":")]),
    ),
  });

  /** Hand a run to the Analysis tab, which may not be there before it is seen. @param {File} file */
  function openInAnalysis(file) {
    openTab("analysis");
    let tries = 0;
    const hand = setInterval(() => {
      tries += 1;
      const there = /** @type {any} */ (window).mpViews.analysis;
      if ((there && there.take(file)) || tries > 100) clearInterval(hand);
    }, 150);
  }

  // ---- sounds -------------------------------------------------------------------------------------------------------
  /** @param {string} name @param {boolean} step */
  async function openExample(name, step) {
    const card = setup.examples.find((/** @type {any} */ one) => one.name === name);
    if (!card || busy) return;
    wanted = name;
    sending = null;
    form.setExample(card);
    form.setArms(setup.arms);
    if (step)
      setAddress(
        {
          example: name,
          q: null,
          choice: [],
          arm1: null,
          arm2: null,
          arm3: null,
          arm4: null,
          pick: null,
          result: null,
        },
        true,
      );
    if (!card.url) {
      run();
      return;
    }
    const known = kept.find(({ doc }) => doc.stored && doc.example === name);
    const doc = known ? known.doc : await fetchExample(card.url);
    if (wanted !== name) return; // another one was chosen meanwhile
    if (!doc) {
      run();
      return;
    }
    showFinished(doc, card);
  }
  /** Show a comparison that was made before. @param {any} doc @param {any} card example whose sound it is of */
  function showFinished(doc, card) {
    // Stored with models that this app does not offer: the form keeps the arms that can be run.
    if (doc.arms.every((/** @type {any} */ arm) => setup.offers.includes(arm.name) && setup.modes[arm.mode]))
      form.setArms(doc.arms.map((/** @type {any} */ arm) => [arm.name, arm.mode]));
    madeOf = fingerprint();
    view.show(doc);
    view.stage.setEvents(doc.truth ? doc.truth.events : []);
    keep(doc);
    if (!doc.clip.audio && card && card.audio) {
      fetch(`${app.home}/${card.audio}`)
        .then((answer) => (answer.ok ? answer.text() : ""))
        .then((uri) => view.sound(doc.clip, uri))
        .catch(() => {}); // without its sound the comparison stands all the same
    }
    view.choose(choiceOf(address().get("pick"), doc));
    showStale();
  }

  // ---- stored results -----------------------------------------------------------------------------------------------
  /** Have a comparison kept; return the address that opens it. @param {any} doc */
  async function keepResult(doc) {
    try {
      const id = await storeResult(app.home, JSON.stringify(doc));
      if (!id) return null;
      setAddress({ result: id });
      return location.href;
    } catch (error) {
      form.refuse("run", error instanceof Error ? error.message : "The result was not kept: try again.");
      return null;
    }
  }
  /** @param {File} file */
  async function openResult(file) {
    if (busy) return;
    form.mendAll();
    if (file.size > setup.result_bytes) {
      form.refuse(
        "audio",
        `${file.name} has ${(file.size / 1e6).toFixed(1)} MB; a stored result has at most ${setup.result_bytes / 1e6} MB.`,
      );
      return;
    }
    refill(form.soundNote, h("span", { class: "mp-note", dir: "auto" }, `Opening ${file.name} …`));
    try {
      const text = await file.text();
      const id = await storeResult(app.home, text);
      const doc = { ...JSON.parse(text), opened: true };
      delete doc.stored;
      setAddress(
        { result: id, example: null, q: null, choice: [], arm1: null, arm2: null, arm3: null, arm4: null, pick: null },
        true,
      );
      showResult(doc);
      view.focusHead();
    } catch (error) {
      refill(form.soundNote);
      form.refuse("audio", error instanceof Error ? error.message : `${file.name} cannot be opened.`);
    }
  }
  /** Show a stored result, and let the form ask the same. @param {any} doc */
  function showResult(doc) {
    const card = setup.examples.find((/** @type {any} */ one) => one.digest === doc.clip.digest);
    wanted = "";
    sending = null;
    if (card) form.setExample(card);
    else form.setStored(doc, useSound);
    form.setQuestion(doc.question.text, doc.question.choices);
    form.fields.answer.value = (!card && doc.question.answer) || "";
    if (doc.truth && doc.truth.origin === "visitor") form.setEvents(doc.truth.events);
    showFinished(doc, card);
    keepDraft();
  }
  /** Bring the sound of a stored result, as if it were uploaded. @param {any} doc */
  async function useSound(doc) {
    send(await soundFileOf(doc.clip));
  }
  async function fetchExample(/** @type {string} */ url) {
    try {
      const answer = await fetch(`${app.home}/${url}`);
      return answer.ok ? await answer.json() : null;
    } catch {
      return null;
    }
  }
  /** @param {File[]} files */
  function takeFiles(files) {
    if (files.length === 1 && isResult(files[0])) openResult(files[0]);
    else if (files.length > 1 && setup.most_clips) batch.send(files);
    else if (files[0]) takeFile(files[0]);
  }
  /** @param {File} file */
  async function takeFile(file) {
    form.mendAll();
    wanted = "";
    refill(form.soundNote, h("span", { class: "mp-note", dir: "auto" }, `Reading ${file.name} …`));
    const buffer = await decoded(file);
    if (buffer && buffer.duration > setup.most_seconds + 0.05) {
      offerTrim(file, buffer);
      return;
    }
    send(file);
  }
  /**
   * A page that is still starting has no upload button yet, or one that nobody listens to: both are tried again.
   * @param {File} file @param {number} [tries]
   */
  function send(file, tries = 0) {
    const input = inputOf("audio");
    if (!input) {
      if (tries < UPLOAD_TRIES) setTimeout(() => send(file, tries + 1), 250);
      else form.refuse("audio", "Uploads are not possible here: reload the page.");
      return;
    }
    sending = file;
    if (tries <= UPLOAD_TRIES) {
      setTimeout(() => {
        if (sending === file) send(file, UPLOAD_TRIES + 1);
      }, 15_000);
    }
    const carried = new DataTransfer();
    carried.items.add(file);
    input.files = carried.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
    refill(
      form.soundNote,
      h(
        "span",
        { class: "mp-note", dir: "auto" },
        h("span", { class: "mp-spinner", "aria-hidden": "true" }),
        ` Sending ${file.name} …`,
      ),
    );
  }
  /** @param {File} file @param {AudioBuffer} buffer */
  function offerTrim(file, buffer) {
    const most = setup.most_seconds - 0.02; // a hair below the limit, whatever the encoder adds
    const start = h("input", {
      type: "range",
      min: 0,
      max: Math.max(0, buffer.duration - 1),
      step: 0.1,
      value: 0,
      "aria-label": "Start of the stretch, in seconds",
    });
    const length = h("input", {
      type: "range",
      min: 1,
      max: most,
      step: 0.1,
      value: most,
      "aria-label": "Length of the stretch, in seconds",
    });
    const text = h("span", { class: "mp-clock" });
    const name = () => {
      text.textContent = `${Number(start.value).toFixed(1)} to ${Math.min(buffer.duration, Number(start.value) + Number(length.value)).toFixed(1)} s`;
    };
    start.addEventListener("input", name);
    length.addEventListener("input", name);
    name();
    refill(
      form.soundNote,
      h(
        "span",
        { dir: "auto" },
        `${file.name} is ${buffer.duration.toFixed(0)} s long; the limit is ${setup.most_seconds.toFixed(0)} s.`,
      ),
      h(
        "button",
        { type: "button", class: "mp-button mp-primary", onclick: () => send(stretchOf(buffer, 0, most, file.name)) },
        `Use the first ${setup.most_seconds.toFixed(0)} s`,
      ),
      h(
        "span",
        { class: "mp-trim" },
        "or start at ",
        start,
        " for ",
        length,
        text,
        h(
          "button",
          {
            type: "button",
            class: "mp-button",
            onclick: () =>
              send(stretchOf(buffer, Number(start.value), Number(start.value) + Number(length.value), file.name)),
          },
          "Use this stretch",
        ),
      ),
    );
    form.soundNote.querySelector("button").focus();
  }
  async function takeRecording() {
    form.mend("audio");
    if (recording) {
      recording.stop();
      return;
    }
    try {
      recording = await record();
    } catch (error) {
      form.refuse("audio", error instanceof Error ? error.message : "The microphone cannot be used.");
      return;
    }
    const begun = performance.now();
    form.recordButton.setAttribute("aria-pressed", "true");
    const label = form.recordButton.querySelector("span");
    const tick = setInterval(() => {
      const now = (performance.now() - begun) / 1000;
      label.textContent = `Stop, ${now.toFixed(0)} s`;
      if (now >= setup.most_seconds) recording.stop();
    }, 250);
    const file = await recording.ended;
    clearInterval(tick);
    recording = null;
    label.textContent = "Record";
    form.recordButton.setAttribute("aria-pressed", "false");
    takeFile(file);
  }
  /** The sound that the server took, or why not. @param {any} value */
  function clip(value) {
    if (!value) return;
    sending = null;
    if (value.refused) {
      refill(form.soundNote);
      form.refuse("audio", value.refused);
      return;
    }
    form.setClip(value);
    setAddress({ example: null, pick: null, result: null }, true);
    if (view.doc) showStale();
    // The new sound stands on the stage at once, to be heard and marked; nothing is said of it yet.
    view.show({
      format: "mpar2.comparison",
      version: 2,
      id: `clip-${value.digest}`,
      created: "",
      package: "",
      status: "sound",
      clip: value,
      question: { text: "Ask a question about your sound", choices: [], answer: null, domain: null, difficulty: null },
      truth: value.truth,
      opinion: value.opinion,
      decoding: {},
      prompts: {},
      credits: null,
      example: null,
      link: null,
      scales: null,
      arms: [],
    });
    madeOf = fingerprint();
    showStale();
    form.fields.question.focus();
  }
  for (const kind of ["dragenter", "dragover"])
    window.addEventListener(kind, (event) => {
      const { dataTransfer } = /** @type {DragEvent} */ (event);
      if (!root.offsetParent || !dataTransfer || !Array.from(dataTransfer.types).includes("Files")) return;
      event.preventDefault();
      drop.hidden = false;
    });
  window.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) drop.hidden = true;
  });
  window.addEventListener("drop", (event) => {
    drop.hidden = true;
    const { dataTransfer } = event;
    if (!root.offsetParent || !dataTransfer || !dataTransfer.files[0]) return;
    event.preventDefault();
    filesOf(dataTransfer).then(takeFiles);
  });

  // ---- help, tour, presentation, keys -------------------------------------------------------------------------------
  function openHelp() {
    refill(
      dialog,
      h("h2", {}, "Keys"),
      h(
        "dl",
        { class: "mp-keys" },
        KEYS.map(([key, text]) => h("div", {}, h("dt", {}, h("kbd", {}, key)), h("dd", {}, text))),
      ),
      h(
        "p",
        { class: "mp-actions" },
        h(
          "button",
          {
            type: "button",
            class: "mp-button",
            onclick: () => {
              closeDialog();
              tour(0);
            },
          },
          "Tour in three steps",
        ),
        h("button", { type: "button", class: "mp-button mp-primary", onclick: closeDialog }, "Close"),
      ),
    );
    dialog.showModal();
  }
  /** @param {number} step */
  function tour(step) {
    const [title, text, selector] = TOUR[step];
    unmark();
    const target = result.querySelector(selector);
    if (target) {
      target.classList.add("mp-toured");
      target.scrollIntoView({ block: "center" });
    }
    refill(
      dialog,
      h("p", { class: "mp-note" }, `${step + 1} of ${TOUR.length}`),
      h("h2", { tabindex: -1 }, title),
      h("p", {}, text),
      h(
        "p",
        { class: "mp-actions" },
        step ? h("button", { type: "button", class: "mp-button", onclick: () => tour(step - 1) }, "Back") : null,
        h(
          "button",
          {
            type: "button",
            class: "mp-button mp-primary",
            onclick: () => {
              if (step + 1 < TOUR.length) tour(step + 1);
              else {
                closeDialog();
                view.focusHead();
              }
            },
          },
          step + 1 < TOUR.length ? "Next" : "Done",
        ),
      ),
    );
    if (!dialog.open) dialog.show();
    dialog.querySelector("h2").focus({ preventScroll: true });
    dialog.classList.add("mp-tour");
  }
  const unmark = () =>
    result.querySelectorAll(".mp-toured").forEach((/** @type {any} */ node) => node.classList.remove("mp-toured"));
  function closeDialog() {
    dialog.classList.remove("mp-tour");
    unmark();
    if (dialog.open) dialog.close();
  }
  dialog.addEventListener("close", () => {
    if (!dialog.open) closeDialog();
  }); // comes later: a tour may have begun meanwhile
  dialog.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    if (event.key === "Escape") {
      event.stopPropagation();
      event.preventDefault();
      closeDialog();
      view.focusHead();
    }
  });
  /** @param {boolean} on */
  function present(on) {
    document.documentElement.classList.toggle("mp-presenting", on);
    if (on && document.documentElement.requestFullscreen) document.documentElement.requestFullscreen().catch(() => {}); // large type does without
    if (!on && document.fullscreenElement) document.exitFullscreen().catch(() => {});
    view.focusHead();
  }
  document.addEventListener("fullscreenchange", () => {
    if (!document.fullscreenElement) document.documentElement.classList.remove("mp-presenting");
  });
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || !root.offsetParent || (dialog.open && !dialog.classList.contains("mp-tour"))) return;
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      run();
      return;
    }
    if (takesText(event.target) || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target instanceof Element && event.target !== document.body && !root.contains(event.target)) return;
    if (event.key === "?") openHelp();
    else if (event.key === "j") form.step(1);
    else if (event.key === "k") form.step(-1);
    else if (event.key === "b") view.hideNames();
    else if (event.key === "p") present(!document.documentElement.classList.contains("mp-presenting"));
    else if (event.key === "Escape" && document.documentElement.classList.contains("mp-presenting")) present(false);
    else {
      view.onKey(event);
      return;
    }
    event.preventDefault();
  });

  // ---- the address --------------------------------------------------------------------------------------------------
  async function openAddress() {
    const query = address();
    const stored = query.get("result");
    const result = stored ? await fetchResult(app.home, stored) : null;
    if (result) {
      showResult(result);
      return;
    }
    const named = query.get("example");
    const card = setup.examples.find((/** @type {any} */ one) => one.name === named);
    const arms = [1, 2, 3, 4]
      .map((i) => (query.get(`arm${i}`) || "").split(/:(?=[^:]*$)/))
      .filter((arm) => arm.length === 2 && setup.offers.includes(arm[0]) && setup.modes[arm[1]]);
    if (named && !card) {
      form.refuse("audio", `There is no example “${named.slice(0, 60)}” here: choose one from the list.`);
    }
    if (card || (!named && !query.has("q"))) {
      if (card || setup.first) await openExample(card ? card.name : setup.first, false);
    }
    if (query.has("q"))
      form.setQuestion(
        /** @type {string} */ (query.get("q")).slice(0, setup.most_question),
        query
          .getAll("choice")
          .slice(0, 26)
          .map((text) => text.slice(0, 300)),
      );
    if (arms.length) form.setArms(arms);
    if (stored) {
      form.refuse(
        "audio",
        "That result is not kept here any more: open the file that it was saved as, or compare again.",
      );
    }
    showStale();
  }
  // A page that lost its server loads itself again: what was typed is there. Never keys; gone with the tab.
  function keepDraft() {
    const { question, choices, arms, events, answer } = form.values();
    try {
      sessionStorage.setItem("mpar2-draft", JSON.stringify({ question, choices, arms, events, answer }));
    } catch {
      /* no store: typed text lives as long as the page */
    }
  }
  function draftOfReload() {
    const [entry] = /** @type {PerformanceNavigationTiming[]} */ (performance.getEntriesByType("navigation"));
    try {
      return entry && entry.type === "reload" ? JSON.parse(sessionStorage.getItem("mpar2-draft") || "null") : null;
    } catch {
      return null;
    }
  }
  /** @param {any} draft */
  function takeDraft(draft) {
    if (!draft) return;
    try {
      form.setQuestion(draft.question, draft.choices.split("\n").filter(Boolean));
      if (draft.arms.length) form.setArms(draft.arms);
      form.fields.events.value = draft.events;
      form.fields.answer.value = draft.answer;
      form.showEvents();
      showStale();
    } catch {
      /* a damaged draft: the form as the address has it */
    }
  }
  window.addEventListener("popstate", () => {
    if (!busy && (address().get("tab") || "compare") === "compare") openAddress();
  });
  const draft = draftOfReload();
  return {
    /** Resolves when the comparison that the address names is drawn. */
    ready: openAddress().then(() => takeDraft(draft)),
    show,
    clip,
    batch: batch.show,
    occlusion,
    /** @param {any} value */
    place(value) {
      if (value && busy && value.ahead > 0) form.setRunning(true, `Number ${value.ahead + 1} in the line`);
    },
  };
}
