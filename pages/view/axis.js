// @ts-check
// One visible window of time, shared by every track. Times are seconds from the start of the clip; x are CSS pixels.

const SHORTEST_WINDOW = 0.2;

export class TimeAxis {
  constructor() {
    this.duration = 1;
    this.t0 = 0;
    this.t1 = 1;
    this.width = 1;
    /** @type {Set<() => void>} */
    this.listeners = new Set();
  }
  /** @param {() => void} listener */
  onChange(listener) {
    this.listeners.add(listener);
  }
  emit() {
    for (const listener of this.listeners) listener();
  }
  /** @param {number} t */
  x(t) {
    return ((t - this.t0) / (this.t1 - this.t0)) * this.width;
  }
  /** @param {number} x */
  t(x) {
    return this.t0 + (x / this.width) * (this.t1 - this.t0);
  }
  /** Show [t0, t1], as far as the clip reaches. @param {number} t0 @param {number} t1 */
  set(t0, t1) {
    const span = Math.min(this.duration, Math.max(Math.min(SHORTEST_WINDOW, this.duration), t1 - t0));
    this.t0 = Math.min(Math.max(0, t0), this.duration - span);
    this.t1 = this.t0 + span;
    this.emit();
  }
  /** Another clip: the whole of it. @param {number} duration */
  open(duration) {
    this.duration = Math.max(duration, 0.01);
    this.set(0, this.duration);
  }
  /** Closer by `factor`, with the time `at` staying where it is. @param {number} factor @param {number} [at] */
  zoom(factor, at) {
    const centre = at ?? (this.t0 + this.t1) / 2;
    const place = (centre - this.t0) / (this.t1 - this.t0);
    const span = (this.t1 - this.t0) / factor;
    this.set(centre - place * span, centre - place * span + span);
  }
  /** @param {number} dt */
  pan(dt) {
    this.set(this.t0 + dt, this.t1 + dt);
  }
  /** Times of the ticks, and how many digits they need. */
  ticks() {
    const step =
      [0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 30, 60, 120].find((s) => (this.t1 - this.t0) / s <= this.width / 64) ||
      300 * Math.ceil(((this.t1 - this.t0) * 64) / (this.width * 300)); // however long: never more than fit
    const found = [];
    for (let k = Math.ceil(this.t0 / step - 1e-9); k * step <= this.t1 + 1e-9; k += 1)
      found.push(+(k * step).toFixed(2));
    return found;
  }
}
