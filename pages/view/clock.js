// @ts-check
// Play the trace: a second clock, over tokens. `step(n)` is called with the token that is being written.

import { clamp, h, icon, iconButton, refill } from "../../analysis/view/dom.js";

const TOKENS_PER_S = 14;

/** @param {(token: number | null) => void} step null when the clock is put away */
export function makeClock(step) {
  let length = 0;
  let token = 0;
  let playing = false;
  let last = 0;
  let speed = 1;
  const button = iconButton("words", "Play the trace", { title: "Play the trace (T)", onclick: () => toggle() }, true);
  const slider = h("input", {
    type: "range",
    min: 0,
    max: 1,
    value: 0,
    step: 1,
    "aria-label": "Token of the trace",
    oninput: () => {
      playing = false;
      token = Number(slider.value);
      tell();
    },
  });
  const count = h("span", { class: "mp-clock" }, "");
  const pace = h(
    "select",
    {
      "aria-label": "Speed of the trace",
      onchange: () => {
        speed = Number(pace.value);
      },
    },
    [
      ["0.5", "½×"],
      ["1", "1×"],
      ["2", "2×"],
      ["4", "4×"],
    ].map(([value, text]) => h("option", { value, selected: value === "1" }, text)),
  );
  const close = iconButton("close", "Show the whole trace", { onclick: () => stop() });
  const row = h("div", { class: "mp-trace-clock", hidden: true }, slider, count, pace, close);

  function tell() {
    slider.value = String(token);
    count.textContent = `token ${token + 1} of ${length}`;
    row.hidden = false;
    refill(button, icon(playing ? "pause" : "words"), h("span", {}, playing ? "Pause the trace" : "Play the trace"));
    button.title = `${playing ? "Pause" : "Play"} the trace (T)`;
    step(token);
  }
  function frame(/** @type {number} */ now) {
    if (!playing || !row.isConnected) return;
    const next = Math.floor(((now - last) / 1000) * TOKENS_PER_S * speed);
    if (next > 0) {
      last = now;
      token = clamp(token + next, 0, length - 1);
      if (token >= length - 1) playing = false;
      tell();
    }
    if (playing) requestAnimationFrame(frame);
  }
  function toggle() {
    if (!length) return;
    playing = !playing;
    if (playing) {
      if (row.hidden || token >= length - 1) token = 0;
      last = performance.now();
      requestAnimationFrame(frame);
    }
    tell();
  }
  function stop() {
    playing = false;
    row.hidden = true;
    refill(button, icon("words"), h("span", {}, "Play the trace"));
    step(null);
  }
  return {
    button,
    row,
    toggle,
    get on() {
      return !row.hidden;
    },
    stop() {
      if (!row.hidden) stop();
    },
    /** @param {number} tokens of the longest arm */
    set(tokens) {
      length = tokens;
      slider.max = String(Math.max(1, tokens - 1));
      button.disabled = tokens < 2;
      token = 0;
      if (!row.hidden) stop();
    },
    /** @param {number} by */
    nudge(by) {
      if (!length) return;
      playing = false;
      token = clamp(row.hidden ? (by > 0 ? 0 : length - 1) : token + by, 0, length - 1);
      tell();
    },
  };
}
