// @ts-check
// Canvases of the stage: the waveform, the spectrogram, rows of attention. All are placed by the one time axis.

import { bytesOf } from "./arrays.js";
import { RAMPS, paint } from "./colours.js";
import { clamp } from "../../analysis/view/dom.js";

/** @typedef {import("./axis.js").TimeAxis} TimeAxis */

/** The context of a canvas, at the size that it has on the screen. @param {HTMLCanvasElement} canvas */
function fitted(canvas) {
  const ratio = window.devicePixelRatio || 1;
  const [width, height] = [
    Math.max(1, Math.round(canvas.clientWidth * ratio)),
    Math.max(1, Math.round(canvas.clientHeight * ratio)),
  ];
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
  }
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  context.clearRect(0, 0, width, height);
  return context;
}

/** The spectrogram of the document as a picture. @param {any} mel @param {boolean} dark */
export function melPicture(mel, dark) {
  const bytes = bytesOf(mel.data);
  const [bands, columns] = mel.shape;
  return paint(columns, bands, (x, y) => bytes[(bands - 1 - y) * columns + x], RAMPS[dark ? "dark" : "light"].mel);
}

/** Some rows of a picture of attention. @param {{ columns: number, at: (row: number, column: number) => number }} picture @param {number[]} rows @param {number} top takes the strongest colour @param {boolean} dark */
export function heatPicture(picture, rows, top, dark) {
  return paint(
    picture.columns,
    rows.length,
    (x, y) => (top > 0 ? clamp(Math.round((255 * picture.at(rows[y], x)) / top), 0, 255) : 0),
    RAMPS[dark ? "dark" : "light"].heat,
  );
}

/** Draw a picture whose columns begin at start_s and last column_s. @param {HTMLCanvasElement} canvas @param {HTMLCanvasElement | null} picture @param {number} start_s @param {number} column_s @param {TimeAxis} axis @param {boolean} soft */
export function drawPicture(canvas, picture, start_s, column_s, axis, soft) {
  const context = fitted(canvas);
  if (!picture) return;
  context.imageSmoothingEnabled = soft;
  context.imageSmoothingQuality = "high";
  const ratio = canvas.width / Math.max(1, canvas.clientWidth);
  const [left, right] = [axis.x(start_s) * ratio, axis.x(start_s + picture.width * column_s) * ratio];
  context.drawImage(picture, left, 0, right - left, canvas.height);
}

/** The waveform: lowest and highest sample of each pixel. @param {HTMLCanvasElement} canvas @param {Float32Array | null} samples @param {number} rate @param {TimeAxis} axis @param {string} colour */
export function drawWave(canvas, samples, rate, axis, colour) {
  const context = fitted(canvas);
  if (!samples) return;
  context.fillStyle = colour;
  const [width, height] = [canvas.width, canvas.height];
  const ratio = width / Math.max(1, canvas.clientWidth);
  for (let x = 0; x < width; x += 1) {
    const from = Math.max(0, Math.floor(axis.t(x / ratio) * rate));
    const to = Math.min(samples.length, Math.max(from + 1, Math.floor(axis.t((x + 1) / ratio) * rate)));
    if (from >= to) continue;
    let [low, high] = [samples[from], samples[from]];
    for (let i = from; i < to; i += 1) {
      if (samples[i] < low) low = samples[i];
      else if (samples[i] > high) high = samples[i];
    }
    context.fillRect(x, height / 2 - (high * height) / 2, 1, Math.max(1, ((high - low) * height) / 2));
  }
}

/** Bars of an occlusion: up where the answer needs the window, down where that speaks against it. @param {HTMLCanvasElement} canvas @param {{ edges_s: number[], drops: (number | null)[] }} track @param {TimeAxis} axis @param {string} colour */
export function drawDrops(canvas, track, axis, colour) {
  const context = fitted(canvas);
  const ratio = canvas.width / Math.max(1, canvas.clientWidth);
  const drops = track.drops.map((drop) => drop || 0);
  const [high, low] = [Math.max(0, ...drops), Math.min(0, ...drops)];
  if (high === low) return;
  const y = (/** @type {number} */ value) => ((high - value) / (high - low)) * canvas.height;
  context.fillStyle = colour;
  drops.forEach((drop, place) => {
    const [left, right] = [axis.x(track.edges_s[place]) * ratio, axis.x(track.edges_s[place + 1]) * ratio];
    context.fillRect(left, Math.min(y(0), y(drop)), Math.max(1, right - left - ratio), Math.abs(y(drop) - y(0)));
  });
  context.fillRect(0, y(0) - ratio / 2, canvas.width, ratio);
}
