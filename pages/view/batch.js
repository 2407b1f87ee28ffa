// @ts-check
// Several clips at once: files are sent one by one, the server works in turns, and the run comes back as a zip.

import { h, icon, iconButton, plural, refill, sentence } from "../../analysis/view/dom.js";
import { inputOf } from "./upload.js";

const KINDS = /\.(wav|flac|mp3|ogg|oga|opus|m4a|aac|webm|mp4|csv|tsv|jsonl)$/i;
const TABLE = /\.(csv|tsv|jsonl)$/i;

/**
 * @param {any} setup what the server knows
 * @param {{ trigger: (name: string, data?: any) => void, started?: Promise<any>, values: () => any, analyse: (file: File) => void, open: () => void }} hooks
 */
export function makeBatch(setup, hooks) {
  const bar = h("progress", { max: 1, value: 0, "aria-label": "Answers written" });
  const text = h("p", { class: "mp-note", role: "status" });
  const problem = h("p", { class: "mp-field-error", role: "alert" });
  const buttons = h("p", { class: "mp-actions" });
  const files = h("input", {
    type: "file",
    multiple: true,
    class: "mp-hidden",
    tabindex: -1,
    "aria-label": "Several files",
    id: "batch-files",
    onchange: () => taken(files),
  });
  const folder = h("input", {
    type: "file",
    class: "mp-hidden",
    tabindex: -1,
    "aria-label": "A folder",
    onchange: () => taken(folder),
  });
  folder.webkitdirectory = true;
  const choosing = h(
    "p",
    { class: "mp-actions" },
    iconButton("up", "Several files", { onclick: () => files.click() }, true),
    iconButton("rows", "A folder", { onclick: () => folder.click() }, true),
    files,
    folder,
  );
  const node = h(
    "fieldset",
    { class: "mp-batch", hidden: !setup.most_clips },
    h("legend", {}, "Several clips at once"),
    h(
      "p",
      { class: "mp-note" },
      `Up to ${setup.most_clips} sounds. Add a table of questions (CSV with the columns audio, question, choices and answer, the choices separated by |; or JSONL), or each sound gets the question above. The arms are those of this form. The result is a run, which the Analysis tab opens.`,
    ),
    choosing,
    text,
    problem,
    bar,
    buttons,
  );
  bar.hidden = true;
  /** @type {((value: any) => void) | null} */
  let arrived = null;
  let busy = false;
  let begun = 0;

  /** @param {any} input */
  function taken(input) {
    const chosen = Array.from(input.files);
    input.value = "";
    send(chosen);
  }
  /** Send files to the server, sounds and a table. @param {File[]} chosen */
  async function send(chosen) {
    const wanted = chosen.filter(({ name }) => KINDS.test(name));
    hooks.open();
    problem.textContent = "";
    if (busy) return;
    if (!wanted.length) {
      problem.textContent = "None of these files is a sound or a table of questions.";
      return;
    }
    if (wanted.filter(({ name }) => !TABLE.test(name)).length > setup.most_clips) {
      problem.textContent = `These are more than ${setup.most_clips} sounds: choose fewer, or run “mpar2 evaluate” on your own machine.`;
      return;
    }
    busy = true;
    await hooks.started;
    hooks.trigger("clear");
    refill(buttons);
    bar.hidden = false;
    /** @type {any} */
    let known = null;
    const refused = [];
    for (const [index, file] of wanted.entries()) {
      text.textContent = `Sending ${index + 1} of ${wanted.length} files …`;
      bar.value = index / wanted.length;
      const value = await handOver(file);
      if (value.added) known = value.added;
      else refused.push(`${file.name}: ${value.refused || "it did not arrive"}`);
    }
    busy = false;
    bar.hidden = true;
    problem.textContent =
      refused.slice(0, 3).join(" ") + (refused.length > 3 ? ` And ${refused.length - 3} more.` : "");
    if (!known || !known.sounds) {
      text.textContent = "";
      return;
    }
    text.textContent = `${plural(known.sounds, "sound")}${known.table ? " and a table of questions" : ", each with the question above"}.`;
    refill(buttons, h("button", { type: "button", class: "mp-button mp-primary", onclick: start }, "Run them"));
    buttons.querySelector("button").focus();
  }
  /** @param {File} file @returns {Promise<any>} */
  function handOver(file) {
    const input = inputOf("batch-file");
    if (!input) return Promise.resolve({ refused: "uploads are not possible here" });
    return new Promise((done) => {
      const patience = setTimeout(() => {
        arrived = null;
        done({});
      }, 60_000);
      arrived = (value) => {
        clearTimeout(patience);
        arrived = null;
        done(value);
      };
      const carried = new DataTransfer();
      carried.items.add(file);
      input.files = carried.files;
      input.dispatchEvent(new Event("change", { bubbles: true }));
    });
  }
  function start() {
    if (busy) return;
    busy = true;
    begun = performance.now();
    problem.textContent = "";
    text.textContent = "Waiting for its turn";
    bar.hidden = false;
    bar.removeAttribute("value");
    const cancel = h(
      "button",
      {
        type: "button",
        class: "mp-button",
        onclick: () => {
          text.textContent = "Stopping after this answer …";
          hooks.trigger("stop");
        },
      },
      icon("stop"),
      "Cancel",
    );
    refill(buttons, cancel);
    cancel.focus();
    hooks.trigger("apply", { ...hooks.values(), begin: true });
  }
  /** @param {any} value */
  function finish(value) {
    busy = false;
    bar.hidden = true;
    const bytes = Uint8Array.from(atob(value.zip), (sign) => sign.charCodeAt(0));
    const file = new File([bytes], "mpar2-run.zip", { type: "application/zip" });
    text.textContent = `${value.state === "stopped" ? "Stopped" : "Done"}: ${value.done} of ${plural(value.total, "answer")}${value.failed ? `, ${value.failed} failed` : ""}. The sounds are deleted here; the run holds no sound.`;
    const save = h("a", { class: "mp-button", download: file.name }, "Download the run (.zip)");
    save.href = URL.createObjectURL(file);
    refill(
      buttons,
      h(
        "button",
        { type: "button", class: "mp-button mp-primary", onclick: () => hooks.analyse(file) },
        "Open in Analysis",
      ),
      save,
    );
    buttons.querySelector("button").focus();
  }
  return {
    node,
    send,
    /** What the server says. @param {any} value */
    show(value) {
      if (!value) return;
      if (value.added || value.refused) {
        if (arrived) arrived(value);
        return;
      }
      if (!busy) return;
      if (value.state === "refused") {
        busy = false;
        bar.hidden = true;
        text.textContent = "";
        problem.textContent = sentence(value.message);
        refill(buttons, h("button", { type: "button", class: "mp-button", onclick: start }, "Try again"));
        buttons.querySelector("button").focus();
        return;
      }
      if (value.state !== "more") {
        finish(value);
        return;
      }
      const done = value.done + value.failed;
      bar.max = value.total;
      bar.value = done;
      const left = done ? (((performance.now() - begun) / done) * (value.total - done)) / 60_000 : 0;
      if (!/^Stopping/.test(text.textContent || ""))
        text.textContent = `${done} of ${plural(value.total, "answer")}${left > 0.5 ? `, about ${plural(Math.ceil(left), "minute")} left` : ""}`;
      hooks.trigger("apply", {});
    },
  };
}
