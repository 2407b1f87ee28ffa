// @ts-check
// The one player. A media element for ordinary play, Web Audio for a sample-exact loop. Times are seconds.

import { bytesOf } from "./arrays.js";

export class Player {
  constructor() {
    this.audio = new Audio();
    this.audio.preload = "auto";
    /** @type {AudioBuffer | null} */
    this.buffer = null;
    /** @type {AudioBufferSourceNode | null} */
    this.source = null;
    /** @type {{ start: number, stop: number } | null} */
    this.loop = null;
    /** @type {AudioContext | null} */
    this.context = null;
    this.uri = "";
    this.started = 0;
    /** @type {number | null} */
    this.until = null;
    this.audio.addEventListener("timeupdate", () => this.check());
  }
  /** Another sound, or none. True once it is decoded. @param {string} uri a data URI or "" */
  async load(uri) {
    if (uri === this.uri) return false;
    this.pause();
    this.loop = null;
    this.buffer = null;
    this.uri = uri;
    if (!uri) {
      this.audio.removeAttribute("src");
      this.audio.load();
      return false;
    }
    this.audio.src = uri;
    const bytes = bytesOf(uri.slice(uri.indexOf(",") + 1));
    const buffer = await new OfflineAudioContext(1, 1, 16000).decodeAudioData(bytes.buffer);
    if (uri === this.uri) this.buffer = buffer;
    return true;
  }
  get ready() {
    return this.uri !== "";
  }
  get playing() {
    return this.source !== null || !this.audio.paused;
  }
  get time() {
    if (!this.source || !this.loop || !this.context) return this.audio.currentTime;
    const { start, stop } = this.loop;
    return start + ((this.context.currentTime - this.started) % (stop - start));
  }
  /** Play on, or a stretch. @param {number} [start] @param {number} [stop] */
  play(start, stop) {
    if (!this.ready) return;
    this.until = null;
    if (start !== undefined) {
      this.pause();
      this.audio.currentTime = start;
      this.until = stop === undefined ? null : Math.max(stop, start + 0.25);
    } else if (this.loop && this.buffer) {
      this.context = this.context || new AudioContext();
      this.context.resume();
      const node = this.context.createBufferSource();
      node.buffer = this.buffer;
      node.loop = true;
      node.loopStart = this.loop.start;
      node.loopEnd = this.loop.stop;
      node.connect(this.context.destination);
      this.started = this.context.currentTime;
      node.start(0, this.loop.start);
      this.source = node;
      return;
    } else if (this.audio.ended || this.audio.currentTime >= this.audio.duration - 0.02) this.audio.currentTime = 0;
    this.audio.play().catch(() => {});
  }
  /** Ends a stretch where it ends; asked in every frame while it plays. */
  check() {
    if (this.until !== null && this.audio.currentTime >= this.until) {
      this.until = null;
      this.audio.pause();
    }
  }
  pause() {
    if (this.source) {
      const here = this.time;
      this.source.stop();
      this.source = null;
      this.audio.currentTime = here;
    }
    this.audio.pause();
  }
  /** @param {number} time */
  seek(time) {
    const looping = this.source !== null;
    if (looping) this.pause();
    this.until = null;
    this.audio.currentTime = time;
    if (looping) this.play();
  }
  /** @param {{ start: number, stop: number } | null} loop */
  setLoop(loop) {
    const was = this.playing;
    if (was) this.pause();
    this.loop = loop && loop.stop > loop.start ? loop : null;
    if (was) this.play();
  }
}
