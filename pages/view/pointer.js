// @ts-check
// Pointer, wheel and touch on the time axis: a click seeks, a drag selects, a pinch or Ctrl with the wheel zooms, a
// sideways wheel pans; a vertical swipe still scrolls the page.

import { clamp } from "../../analysis/view/dom.js";

const DRAG_PX = 4;

/**
 * @param {any} pad @param {import("./axis.js").TimeAxis} axis
 * @param {{ click: (t: number, event: PointerEvent) => void, select: (from: number, to: number) => void, selected: () => void, hover: (t: number | null, event: PointerEvent | null) => void }} hooks
 */
export function watchPointer(pad, axis, hooks) {
  /** @type {Map<number, number>} */
  const fingers = new Map();
  /** @type {{ x: number, t: number, moved: boolean } | null} */
  let press = null;
  /** @type {{ distance: number, t0: number, t1: number, at: number } | null} */
  let pinch = null;
  const xOf = (/** @type {any} */ event) => event.clientX - pad.getBoundingClientRect().left;

  pad.addEventListener("pointerdown", (/** @type {PointerEvent} */ event) => {
    if (event.button) return;
    fingers.set(event.pointerId, xOf(event));
    pad.setPointerCapture(event.pointerId);
    if (fingers.size === 2) {
      const [a, b] = [...fingers.values()];
      pinch = { distance: Math.max(1, Math.abs(a - b)), t0: axis.t0, t1: axis.t1, at: axis.t((a + b) / 2) };
      press = null; // the first finger was no selection
    } else press = { x: xOf(event), t: axis.t(xOf(event)), moved: false };
  });
  pad.addEventListener("pointermove", (/** @type {PointerEvent} */ event) => {
    const x = xOf(event);
    if (event.pointerType === "mouse") hooks.hover(axis.t(x), event);
    if (!fingers.has(event.pointerId)) return;
    fingers.set(event.pointerId, x);
    if (pinch && fingers.size === 2) {
      const [a, b] = [...fingers.values()];
      const span = (pinch.t1 - pinch.t0) / Math.max(0.05, Math.abs(a - b) / pinch.distance);
      const place = (a + b) / 2 / axis.width;
      axis.set(pinch.at - place * span, pinch.at - place * span + span);
    } else if (press && (press.moved || Math.abs(x - press.x) > DRAG_PX)) {
      press.moved = true;
      hooks.select(press.t, clamp(axis.t(x), 0, axis.duration));
    }
  });
  const up = (/** @type {PointerEvent} */ event) => {
    if (press && event.type === "pointerup") {
      if (press.moved) hooks.selected();
      else hooks.click(clamp(press.t, 0, axis.duration), event);
    }
    fingers.delete(event.pointerId);
    if (fingers.size < 2) pinch = null;
    press = null;
  };
  pad.addEventListener("pointerup", up);
  pad.addEventListener("pointercancel", up);
  pad.addEventListener("pointerleave", () => hooks.hover(null, null));
  pad.addEventListener(
    "wheel",
    (/** @type {WheelEvent} */ event) => {
      if (event.ctrlKey || event.metaKey) {
        event.preventDefault();
        axis.zoom(Math.exp(-event.deltaY * 0.0025), axis.t(xOf(event)));
      } else if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
        event.preventDefault();
        axis.pan(((event.deltaX || event.deltaY) / axis.width) * (axis.t1 - axis.t0));
      }
    },
    { passive: false },
  );
}
