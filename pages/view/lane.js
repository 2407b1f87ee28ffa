// @ts-check
// The lane of true sounds. Each region is a button: arrows move it, Shift with arrows its end, Alt with arrows its start,
// Enter chooses, F2 renames, Delete removes, Space plays. With the mouse: drag free ground to mark a sound, drag edges, double click.

import { clamp, h, interval, percent, textScale } from "../../analysis/view/dom.js";

const SHORTEST = 0.02;
const LANE_PX = 26;
const FINGER_PX = 38;
const OPINION_PX = 20;

/**
 * @param {any} plot the element that holds the regions
 * @param {import("./axis.js").TimeAxis} axis
 * @param {{ changed: (events: any[], touched: any) => void, select: (event: any) => void, play: (start: number, stop: number) => void, seek: (time: number) => void, editable: () => boolean, opinion?: boolean }} hooks  with `opinion` regions show how sure a machine is, and free ground draws none
 */
export function makeLane(plot, axis, hooks) {
  /** @type {{ event: any, node: any, name: any, lane: number }[]} */
  let regions = [];
  const coarse = matchMedia("(pointer: coarse)");
  const laneHeight = () => textScale() * (coarse.matches ? FINGER_PX : hooks.opinion ? OPINION_PX : LANE_PX);

  const timed = (/** @type {any} */ event) => event.onset_s !== null && event.offset_s !== null;
  const sureness = (/** @type {any} */ event) =>
    event.confidence === undefined ? "" : `${percent(event.confidence)} sure, `;
  function describe(/** @type {any} */ event) {
    const help = hooks.editable()
      ? ". Arrow keys move it, Shift with arrows its end, Alt with arrows its start, F2 renames, Delete removes, Space plays."
      : ". Space plays it.";
    return `${hooks.opinion ? "A machine’s opinion: " : ""}${event.label}, ${sureness(event)}${interval(event.onset_s, event.offset_s)}${help}`;
  }
  function place(/** @type {any} */ region) {
    const { event, node } = region;
    const high = laneHeight();
    node.style.left = `${axis.x(event.onset_s)}px`;
    node.style.width = `${Math.max(8, axis.x(event.offset_s) - axis.x(event.onset_s))}px`;
    node.style.top = `${2 + region.lane * high}px`;
    node.style.height = `${high - 4}px`;
    node.setAttribute("aria-label", describe(event));
    node.title = `${event.label}, ${sureness(event)}${interval(event.onset_s, event.offset_s)}`;
  }
  function arrange() {
    // overlapping sounds stand in lanes of their own
    /** @type {number[]} */
    const ends = [];
    let first = -1; // what a machine is not sure of stands below the rest
    for (const region of [...regions].sort(
      (a, b) => Number(Boolean(a.event.unsure)) - Number(Boolean(b.event.unsure)) || a.event.onset_s - b.event.onset_s,
    )) {
      if (region.event.unsure && first < 0) first = ends.length;
      let lane = ends.findIndex((end, at) => at >= first && end <= region.event.onset_s + 1e-6);
      if (lane < 0) lane = ends.push(0) - 1;
      ends[lane] = region.event.offset_s;
      region.lane = lane;
    }
    plot.style.height = `${Math.max(1, ends.length) * laneHeight()}px`;
    regions.forEach(place);
  }
  const changed = (/** @type {any} */ region) => {
    arrange();
    hooks.changed(
      regions.map(({ event }) => event),
      region ? region.event : null,
    );
  };

  function add(/** @type {any} */ event) {
    const name = h("span", { dir: "auto" }, event.label);
    const node = h(
      "div",
      {
        class: `mp-region ${hooks.opinion ? "mp-opinion" : ""} ${event.unsure ? "mp-unsure" : ""}`,
        role: "button",
        tabindex: 0,
        "aria-pressed": "false",
        "data-event": event.index ?? "",
      },
      h("i", { class: "mp-edge", "data-side": "start" }),
      name,
      event.confidence === undefined
        ? null
        : h("small", {}, ` ${event.unsure ? "? " : ""}${percent(event.confidence)}`),
      h("i", { class: "mp-edge", "data-side": "end" }),
    );
    const region = { event: { ...event }, node, name, lane: 0 };
    regions.push(region);
    plot.append(node);
    node.addEventListener("pointerdown", (/** @type {PointerEvent} */ press) => {
      if (press.button || /** @type {any} */ (press.target).tagName === "INPUT") return;
      press.stopPropagation();
      drag(region, press, /** @type {any} */ (press.target).dataset.side || "both");
    });
    node.addEventListener("dblclick", () => {
      if (hooks.editable()) rename(region);
    });
    node.addEventListener("keydown", (/** @type {KeyboardEvent} */ key) => onKey(region, key));
    return region;
  }
  function onKey(/** @type {any} */ region, /** @type {KeyboardEvent} */ key) {
    if (/** @type {any} */ (key.target).tagName === "INPUT") return;
    const direction = { ArrowLeft: -1, ArrowRight: 1 }[key.key];
    if (direction && hooks.editable()) {
      move(region, direction * (key.ctrlKey ? 0.01 : 0.05), key.shiftKey ? "end" : key.altKey ? "start" : "both", {
        ...region.event,
      });
      changed(region);
    } else if (key.key === "F2" && hooks.editable()) rename(region);
    else if (key.key === "Enter") hooks.select(region.event);
    else if (key.key === " ") {
      hooks.select(region.event);
      hooks.play(region.event.onset_s, region.event.offset_s);
    } else if ((key.key === "Delete" || key.key === "Backspace") && hooks.editable()) remove(region);
    else return;
    key.preventDefault();
    key.stopPropagation();
  }
  function move(
    /** @type {any} */ region,
    /** @type {number} */ dt,
    /** @type {string} */ side,
    /** @type {any} */ from,
  ) {
    const { event } = region;
    const length = from.offset_s - from.onset_s;
    if (side === "both") {
      event.onset_s = clamp(from.onset_s + dt, 0, axis.duration - length);
      event.offset_s = event.onset_s + length;
    } else if (side === "start") event.onset_s = clamp(from.onset_s + dt, 0, event.offset_s - SHORTEST);
    else event.offset_s = clamp(from.offset_s + dt, event.onset_s + SHORTEST, axis.duration);
    place(region);
  }
  function drag(/** @type {any} */ region, /** @type {PointerEvent} */ press, /** @type {string} */ side) {
    const from = { ...region.event };
    let moved = false;
    region.node.setPointerCapture(press.pointerId);
    const go = (/** @type {PointerEvent} */ e) => {
      if (!hooks.editable()) return;
      if (Math.abs(e.clientX - press.clientX) > 4) moved = true;
      if (moved) move(region, ((e.clientX - press.clientX) / axis.width) * (axis.t1 - axis.t0), side, from);
    };
    const end = (/** @type {PointerEvent} */ e) => {
      region.node.removeEventListener("pointermove", go);
      if (e.type === "pointercancel") {
        region.event = from;
        place(region);
      } else if (moved) changed(region);
      else {
        hooks.select(region.event);
        hooks.play(region.event.onset_s, region.event.offset_s);
      }
    };
    region.node.addEventListener("pointermove", go);
    region.node.addEventListener("pointerup", end, { once: true });
    region.node.addEventListener("pointercancel", end, { once: true });
  }
  function rename(/** @type {any} */ region) {
    if (region.node.querySelector("input")) return;
    const input = h("input", {
      type: "text",
      value: region.event.label,
      "aria-label": "Name of this sound",
      maxlength: 120,
    });
    region.name.replaceWith(input);
    input.focus();
    input.select();
    let closed = false;
    const close = (/** @type {boolean} */ keep) => {
      if (closed) return;
      closed = true;
      const label = input.value.trim();
      if (keep && label) region.event.label = label;
      region.name.textContent = region.event.label;
      input.replaceWith(region.name);
      region.node.focus();
      changed(region);
    };
    input.addEventListener("keydown", (/** @type {KeyboardEvent} */ key) => {
      key.stopPropagation();
      if (key.key === "Enter") close(true);
      if (key.key === "Escape") close(false);
    });
    input.addEventListener("blur", () => close(true));
  }
  function remove(/** @type {any} */ region) {
    const index = regions.indexOf(region);
    regions.splice(index, 1);
    region.node.remove();
    (regions[Math.min(index, regions.length - 1)] || { node: plot }).node.focus();
    changed(null);
  }
  plot.tabIndex = -1;
  plot.addEventListener("pointerdown", (/** @type {PointerEvent} */ press) => {
    if (press.target !== plot || press.button) return;
    const box = plot.getBoundingClientRect();
    const start = axis.t(press.clientX - box.left);
    plot.setPointerCapture(press.pointerId);
    /** @type {any} */
    let region = null;
    const go = (/** @type {PointerEvent} */ e) => {
      if (!hooks.editable() || hooks.opinion) return;
      const here = clamp(axis.t(e.clientX - box.left), 0, axis.duration);
      if (!region && Math.abs(e.clientX - press.clientX) > 4)
        region = add({ label: "sound", onset_s: start, offset_s: start + SHORTEST });
      if (region) {
        region.event.onset_s = Math.min(start, here);
        region.event.offset_s = Math.max(start + SHORTEST, here);
        place(region);
      }
    };
    const end = () => {
      plot.removeEventListener("pointermove", go);
      if (region) {
        changed(region);
        rename(region);
      } else hooks.seek(start);
    };
    plot.addEventListener("pointermove", go);
    plot.addEventListener("pointerup", end, { once: true });
    plot.addEventListener("pointercancel", end, { once: true });
  });
  axis.onChange(() => regions.forEach(place));
  return {
    /** Show these; sounds without times have no region. @param {any[]} events */
    set(events) {
      regions.forEach(({ node }) => node.remove());
      regions = [];
      events.filter(timed).forEach(add);
      arrange();
    },
    get: () => regions.map(({ event }) => event),
    /** A region of two tenths of a second at `time`, to be named. @param {number} time */
    addAt(time) {
      const region = add({
        label: "sound",
        onset_s: clamp(time, 0, axis.duration - 0.2),
        offset_s: Math.min(axis.duration, clamp(time, 0, axis.duration - 0.2) + 0.5),
      });
      changed(region);
      rename(region);
    },
    /** Tell regions which of these sounds they are; times as text keeps them, to a hundredth of a second. @param {any[]} events */
    number(events) {
      for (const { event, node } of regions) {
        const index = events.findIndex(
          (one) =>
            timed(one) &&
            one.label === event.label &&
            Math.abs(one.onset_s - event.onset_s) < 0.011 &&
            Math.abs(one.offset_s - event.offset_s) < 0.011,
        );
        event.index = index < 0 ? undefined : index;
        node.dataset.event = index < 0 ? "" : String(index);
      }
    },
    /** @param {any} event */
    focus(event) {
      const region = regions.find((one) => one.event.label === event.label && one.event.onset_s === event.onset_s);
      if (region) region.node.focus();
    },
    /** Which regions are lit. @param {(event: any) => boolean} test */
    light(test) {
      regions.forEach(({ event, node }) => {
        const on = test(event);
        node.classList.toggle("mp-lit", on);
        node.setAttribute("aria-pressed", String(on));
      });
    },
    redraw: arrange,
  };
}
