// @ts-check
// The form of a comparison: one line (example, sound, question, Compare) and a drawer with everything else.

import { clamp, h, icon, iconButton, percent, refill, seconds, sentence, textScale } from "../../analysis/view/dom.js";
import { eventsOf, linesOf } from "./labels.js";
import { MODES, coloursOf, ownColour } from "./words.js";

const GROUPS = ["MPAR² helps", "Both right", "Both wrong", "MPAR² harms", "Others", "Not run yet"];

/**
 * @param {any} setup what the server knows (pages.compare.setup_of)
 * @param {{ run: () => void, stop: () => void, example: (name: string) => void, files: (files: File[]) => void, record: () => void, changed: () => void, help: () => void, present: () => void }} hooks
 */
export function makeForm(setup, hooks) {
  const state = {
    source: "none",
    example: "",
    name: "",
    seconds: setup.most_seconds,
    digest: "",
    arms: setup.arms.map((/** @type {string[]} */ arm) => arm.slice()),
  };
  /** @type {Record<string, any>} */
  const fields = {};
  /** @type {Record<string, any>} */
  const problems = {};

  /** A labelled field with a place for what is wrong with it. @param {string} name @param {string} label @param {any} control @param {string} [hint] */
  function field(name, label, control, hint) {
    fields[name] = control;
    control.id = `mp-field-${name}`;
    problems[name] = h("p", { class: "mp-field-error", id: `mp-error-${name}`, role: "alert" });
    control.addEventListener("input", () => {
      mend(name);
      hooks.changed();
    });
    control.addEventListener("change", () => hooks.changed());
    return h(
      "div",
      { class: `mp-field mp-field-${name}` },
      h("label", { for: control.id }, label),
      control,
      hint ? h("p", { class: "mp-note", id: `mp-hint-${name}` }, hint) : null,
      problems[name],
    );
  }
  // ---- the line -----------------------------------------------------------------------------------------------------
  const examples = h("select", {
    "aria-label": "Example",
    class: "mp-examples",
    onchange: () => {
      if (examples.value) hooks.example(examples.value);
    },
  });
  refill(
    examples,
    h("option", { value: "", disabled: true }, setup.examples.length ? "Choose an example" : "No examples here"),
    GROUPS.map((group) => ({ group, cards: setup.examples.filter((/** @type {any} */ card) => card.group === group) }))
      .filter(({ cards }) => cards.length)
      .map(({ group, cards }) =>
        h(
          "optgroup",
          { label: group },
          cards.map((/** @type {any} */ card) =>
            h("option", { value: card.name, title: card.shows }, `${card.title}, ${seconds(card.seconds)}`),
          ),
        ),
      ),
  );
  const step = (/** @type {number} */ by) => {
    const names = Array.from(examples.options, (/** @type {any} */ option) => option.value).filter(Boolean);
    if (!names.length) return;
    const here = names.indexOf(state.example);
    hooks.example(names[here < 0 ? 0 : (here + by + names.length) % names.length]);
  };
  const file = h("input", {
    type: "file",
    id: "clip-file",
    accept: "audio/*,video/*,.wav,.flac,.mp3,.ogg,.opus,.m4a,.aac,.webm,.json",
    class: "mp-hidden",
    tabindex: -1,
    "aria-label": "Sound file",
    multiple: true,
    onchange: () => {
      hooks.files(Array.from(file.files));
      file.value = "";
    },
  });
  const upload = iconButton("up", "Upload a file", { onclick: () => file.click() }, true);
  const recordButton = iconButton("record", "Record", { onclick: () => hooks.record() }, true);
  const question = h("textarea", {
    rows: 1,
    maxlength: setup.most_question,
    placeholder: "What do you want to know about the sound?",
    "aria-describedby": "mp-error-question",
  });
  const drawerButton = h(
    "button",
    {
      type: "button",
      class: "mp-button",
      "aria-expanded": "false",
      "aria-controls": "mp-drawer",
      onclick: () => openDrawer(drawer.hidden),
    },
    "Choices, arms, more ▾",
  );
  const run = h(
    "button",
    {
      type: "button",
      class: "mp-button mp-primary mp-run",
      id: "run",
      title: "Ctrl + Enter",
      onclick: () => hooks.run(),
    },
    "Compare",
  );
  const stop = h(
    "button",
    { type: "button", class: "mp-button", id: "stop", hidden: true, onclick: () => hooks.stop() },
    icon("stop"),
    "Stop",
  );
  const soundNote = h("div", { class: "mp-sound-note", "aria-live": "polite" });
  problems.audio = h("p", { class: "mp-field-error", id: "mp-error-audio", role: "alert" });
  problems.run = h("p", { class: "mp-field-error", id: "mp-error-run", role: "alert" });
  fields.audio = upload;
  fields.run = run;
  const questionField = field("question", "Question", question);

  // ---- the drawer ---------------------------------------------------------------------------------------------------
  const choices = h("textarea", { rows: 4, maxlength: 6000, "aria-describedby": "mp-error-choices" });
  const answer = h("input", { type: "text", maxlength: 300, autocomplete: "off" });
  const events = h("textarea", {
    rows: 3,
    maxlength: 6000,
    placeholder: "dog bark 0.5-1.5",
    "aria-describedby": "mp-error-events",
  });
  const eventList = h("div", { class: "mp-chips", "aria-live": "polite" });
  const known_ = h(
    "p",
    { class: "mp-note", hidden: true },
    "The right answer and the sounds of this example are known and used. What you write here counts instead.",
  );
  const judge = h(
    "select",
    {},
    setup.judges.map((/** @type {any[]} */ [value, text]) => h("option", { value }, text)),
  );
  const judgeNow = () => setup.judges.find((/** @type {any[]} */ [value]) => value === judge.value) || setup.judges[0];
  const key = h("input", { type: "password", maxlength: 400, autocomplete: "off" });
  const server = h("input", { type: "url", maxlength: 400, placeholder: "https://host/v1", autocomplete: "off" });
  const model = h("input", { type: "text", maxlength: 200, autocomplete: "off" });
  const tokens = h("input", { type: "number", min: 1, max: setup.most_tokens, step: 1, value: setup.most_tokens });
  const temperature = h("input", { type: "number", min: 0, max: 1.5, step: 0.1, value: 0 });
  const seed = h("input", { type: "number", step: 1, value: 0 });
  const armList = h("div", { class: "mp-arm-list" });
  problems.arms = h("p", { class: "mp-field-error", id: "mp-error-arms", role: "alert" });
  fields.arms = armList;
  const judgeFields = [
    field("key", "Key", key, "Used for this run only, kept nowhere."),
    field("address", "Server address", server),
    field("model", "Name of the model", model),
  ];
  const drawer = h(
    "div",
    { class: "mp-drawer", id: "mp-drawer", hidden: true },
    h(
      "fieldset",
      {},
      h("legend", {}, "Question"),
      field("choices", "Answer choices, one per line (optional)", choices),
      h(
        "details",
        { class: "mp-fold" },
        h("summary", {}, "Suggested questions"),
        h(
          "div",
          { class: "mp-chips" },
          setup.suggested.questions.map((/** @type {any} */ q) =>
            h(
              "button",
              {
                type: "button",
                class: "mp-button",
                onclick: () => {
                  question.value = q.text;
                  choices.value = q.choices.join("\n");
                  answer.value = "";
                  grow();
                  hooks.changed();
                  question.focus();
                },
              },
              q.text,
            ),
          ),
        ),
        h("p", { class: "mp-note" }, setup.suggested.note),
      ),
    ),
    h(
      "fieldset",
      {},
      h("legend", {}, "Compare (the first is the baseline)"),
      armList,
      problems.arms,
      h(
        "p",
        { class: "mp-note" },
        Object.entries(setup.modes)
          .map(([mode, /** @type {any} */ [name, text]]) => {
            const known = MODES[/** @type {keyof typeof MODES} */ (mode)];
            return `${name}: ${known ? known.text : text}. `;
          })
          .join(""),
      ),
      setup.real_models.length ? realModels(setup.real_models) : null,
    ),
    h(
      "fieldset",
      {},
      h("legend", {}, "Check the claims"),
      known_,
      field("answer", "Right answer, if you know it", answer, "One of the choices, word for word."),
      field(
        "events",
        "Sounds in the clip, one per line",
        events,
        "With times in seconds where you know them; or drag on the lane “in the clip” to mark them.",
      ),
      eventList,
      field("judge", "Checked by", judge),
      judgeFields,
    ),
    h(
      "fieldset",
      {},
      h("legend", {}, "Advanced"),
      field("max_new_tokens", "Longest answer (tokens)", tokens, "A token is about a short word."),
      field("temperature", "Temperature", temperature, "0 always takes the likeliest word."),
      field("seed", "Seed", seed),
    ),
  );
  judge.addEventListener("change", showJudge);
  function showJudge() {
    const [name, , brought, addressed] = judgeNow();
    judgeFields[0].hidden = !brought;
    judgeFields[1].hidden = !addressed;
    judgeFields[2].hidden = name === "rules";
  }
  const heard = (/** @type {any} */ opinion) =>
    opinion.events.length
      ? `A tagger finds: ${opinion.events
          .slice(0, 4)
          .map((/** @type {any} */ event) => `${event.label} (${percent(event.confidence)} sure)`)
          .join(", ")}${opinion.events.length > 4 ? ` and ${opinion.events.length - 4} more` : ""}.`
      : "A tagger finds no sound that it is sure of.";
  events.addEventListener("input", () => {
    showEvents();
  });
  function showEvents() {
    const { events: known, problems: wrong } = eventsOf(events.value, state.seconds);
    refill(
      eventList,
      known.map(({ label, onset_s, offset_s }) =>
        h(
          "span",
          { class: "mp-chip", dir: "auto" },
          onset_s === null || offset_s === null ? label : `${label} ${onset_s.toFixed(1)}–${offset_s.toFixed(1)} s`,
        ),
      ),
    );
    problems.events.textContent = wrong.slice(0, 3).join(" ");
    events.setAttribute("aria-invalid", String(wrong.length > 0));
    return { known, wrong };
  }
  function drawArms() {
    const colours = coloursOf(state.arms.map((/** @type {string[]} */ [, mode]) => ({ mode })));
    refill(
      armList,
      state.arms.map((/** @type {string[]} */ arm, /** @type {number} */ index) => {
        const menu = (/** @type {string} */ label, /** @type {string[][]} */ options, /** @type {number} */ place) =>
          h(
            "select",
            {
              "aria-label": `${label} of arm ${"ABCD"[index]}`,
              onchange: (/** @type {any} */ event) => {
                arm[place] = event.target.value;
                const own = coloursOf(state.arms.map((/** @type {string[]} */ [, mode]) => ({ mode })));
                armList
                  .querySelectorAll(".mp-arm-choice")
                  .forEach((/** @type {any} */ node, /** @type {number} */ i) => {
                    for (const [name, value] of Object.entries(ownColour(own[i]))) node.style.setProperty(name, value);
                  });
                mend("arms");
                hooks.changed();
              },
            },
            options.map(([value, text]) => h("option", { value, selected: value === arm[place] }, text)),
          );
        return h(
          "div",
          { class: "mp-arm-choice", style: ownColour(colours[index]) },
          h("span", { class: "mp-letter", "aria-hidden": "true" }, "ABCD"[index]),
          menu(
            "Mode",
            Object.entries(setup.modes).map(([value, /** @type {any} */ [name]]) => [value, name]),
            1,
          ),
          menu(
            "Model",
            setup.offers.map((/** @type {string} */ name) => [name, name]),
            0,
          ),
          iconButton("close", `Remove arm ${"ABCD"[index]}`, {
            disabled: state.arms.length < 2,
            onclick: () => {
              state.arms.splice(index, 1);
              drawArms();
              hooks.changed();
              armList.querySelector("select").focus();
            },
          }),
        );
      }),
      state.arms.length < 4
        ? h(
            "button",
            {
              type: "button",
              class: "mp-button",
              onclick: () => {
                state.arms.push(state.arms[state.arms.length - 1].slice());
                drawArms();
                hooks.changed();
              },
            },
            icon("plus"),
            "Add an arm",
          )
        : null,
    );
  }
  function openDrawer(/** @type {boolean} */ open) {
    drawer.hidden = !open;
    drawerButton.setAttribute("aria-expanded", String(open));
    drawerButton.textContent = open ? "Close ▴" : "Choices, arms, more ▾";
  }
  function grow() {
    question.style.height = "auto";
    question.style.height = `${clamp(question.scrollHeight + 2, 34 * textScale(), 120 * textScale())}px`;
  }
  question.addEventListener("input", grow);
  new ResizeObserver(grow).observe(question); // its lines change with its width
  /** Nothing is wrong with a field any more. @param {string} name */
  function mend(name) {
    if (problems[name]) problems[name].textContent = "";
    if (fields[name]) fields[name].removeAttribute("aria-invalid");
  }
  const node = h(
    "form",
    {
      class: "mp-form",
      onsubmit: (/** @type {Event} */ event) => {
        event.preventDefault();
        hooks.run();
      },
    },
    h(
      "div",
      { class: "mp-form-line" },
      h(
        "div",
        { class: "mp-source" },
        iconButton("previous", "Previous example (K)", { onclick: () => step(-1) }),
        examples,
        iconButton("next", "Next example (J)", { onclick: () => step(1) }),
      ),
      upload,
      recordButton,
      file,
      questionField,
      drawerButton,
      run,
      stop,
      h(
        "button",
        {
          type: "button",
          class: "mp-button mp-square",
          title: "Keys and help (?)",
          "aria-label": "Keys and help",
          onclick: () => hooks.help(),
        },
        "?",
      ),
      iconButton("screen", "Present: large type, no form (P)", { class: "mp-present", onclick: () => hooks.present() }),
    ),
    soundNote,
    problems.audio,
    problems.run,
    drawer,
  );
  drawArms();
  showJudge();
  return {
    node,
    drawer,
    state,
    fields,
    step,
    grow,
    openDrawer,
    mend,
    showEvents,
    soundNote,
    recordButton,
    get drawerOpen() {
      return !drawer.hidden;
    },
    /** Say at a field what is wrong, and go there. @param {string} name @param {string} message */
    refuse(name, message) {
      const known = problems[name] ? name : "run";
      problems[known].textContent = sentence(message);
      if (drawer.contains(problems[known])) openDrawer(true);
      const control = fields[known];
      if (known === "arms") {
        control.querySelector("select").focus();
        return;
      }
      control.setAttribute("aria-invalid", "true");
      control.focus();
    },
    mendAll() {
      Object.keys(problems).forEach(mend);
    },
    /** @param {any} card */
    setExample(card) {
      Object.assign(state, {
        source: "example",
        example: card.name,
        name: card.title,
        seconds: card.seconds,
        digest: card.digest,
      });
      examples.value = card.name;
      question.value = card.question;
      choices.value = card.choices.join("\n");
      answer.value = "";
      events.value = "";
      known_.hidden = false;
      refill(soundNote);
      this.mendAll();
      showEvents();
      grow();
    },
    /** A sound of the visitor's: what belonged to the sound before is cleared. @param {any} clip */
    setClip(clip) {
      const asked = setup.examples.find((/** @type {any} */ card) => card.name === state.example);
      if (asked && question.value.trim() === asked.question) question.value = "";
      Object.assign(state, {
        source: "upload",
        example: "",
        name: clip.name,
        seconds: clip.seconds,
        digest: clip.digest,
      });
      examples.value = "";
      known_.hidden = true;
      choices.value = "";
      answer.value = "";
      events.value = "";
      showEvents();
      mend("audio");
      refill(
        soundNote,
        h("span", { class: "mp-chip mp-matched", dir: "auto" }, `Your sound: ${clip.name}, ${seconds(clip.seconds)}`),
        (clip.warnings || []).map((/** @type {string} */ text) => h("span", { class: "mp-note" }, text)),
        clip.known ? h("span", { class: "mp-note" }, `It is the sound of the example “${clip.known}”.`) : null,
        clip.opinion
          ? h(
              "span",
              { class: "mp-note", dir: "auto" },
              `${heard(clip.opinion)} A machine’s opinion: correct it below.`,
            )
          : null,
        h(
          "span",
          { class: "mp-note" },
          "It is deleted when you leave, after an hour at the latest. Only a link that you copy to a result holds it.",
        ),
      );
    },
    /** A stored result whose sound the server does not have. @param {any} doc @param {(doc: any) => void} use */
    setStored(doc, use) {
      Object.assign(state, {
        source: "none",
        example: "",
        name: doc.clip.name,
        seconds: doc.clip.seconds,
        digest: doc.clip.digest,
      });
      examples.value = "";
      known_.hidden = true;
      answer.value = "";
      events.value = "";
      this.mendAll();
      showEvents();
      refill(
        soundNote,
        h("span", { class: "mp-chip", dir: "auto" }, `A stored result of ${doc.created.slice(0, 40)}`),
        h("span", { class: "mp-note" }, "It shows what its file says."),
        doc.clip.audio
          ? h(
              "button",
              { type: "button", class: "mp-button", onclick: () => use(doc) },
              "Ask something else of its sound",
            )
          : h("span", { class: "mp-note" }, "Its sound is not part of it."),
      );
    },
    chooseFile: () => file.click(),
    /** @param {any[]} list */
    setEvents(list) {
      events.value = linesOf(list);
      showEvents();
    },
    /** @param {boolean} running @param {string} [progress] */
    setRunning(running, progress) {
      run.disabled = false;
      run.setAttribute("aria-disabled", String(running));
      run.classList.toggle("mp-busy", running);
      refill(
        run,
        running ? [h("span", { class: "mp-spinner", "aria-hidden": "true" }), progress || "Running"] : "Compare",
      );
      stop.hidden = !running;
    },
    /** What is asked, for the server. */
    values() {
      return {
        source: state.source,
        example: state.example,
        question: question.value.trim(),
        choices: choices.value,
        arms: state.arms.map((/** @type {string[]} */ arm) => arm.slice()),
        answer: answer.value.trim(),
        events: linesOf(showEvents().known),
        judge: judge.value,
        key: judge.value === "rules" ? "" : key.value,
        address: judgeNow()[3] ? server.value : "",
        model: judge.value === "rules" ? "" : model.value,
        max_new_tokens: tokens.value === "" ? null : Number(tokens.value),
        temperature: temperature.value === "" ? null : Number(temperature.value),
        seed: seed.value === "" ? null : Number(seed.value),
      };
    },
    /** Ask something else of the same sound. @param {string} text @param {string[]} options */
    setQuestion(text, options) {
      question.value = text;
      choices.value = options.join("\n");
      grow();
    },
    /** @param {string[][]} arms */
    setArms(arms) {
      state.arms = arms.map((arm) => arm.slice());
      drawArms();
    },
    redrawArms: drawArms,
  };
}

/** How to compare models of full size. @param {string[][]} entries command, what it needs, start of the app */
function realModels(entries) {
  return h(
    "details",
    { class: "mp-fold" },
    h("summary", {}, "A real model on this machine"),
    h(
      "p",
      { class: "mp-note" },
      "The models that come with the app are very small. One of these commands serves a real one; give --arm once for each arm. A server gives no attention. None of these weights was run by the authors of the app.",
    ),
    entries.map(([command, needs, start]) => [
      h("p", { class: "mp-note" }, needs),
      h("pre", {}, `${command}\n${start}`),
    ]),
  );
}
