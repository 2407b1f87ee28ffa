// @ts-check
// Colours of pictures, and the themes.
//
// Sequential maps whose lightness changes evenly, so that they also read in grey and for colour-blind eyes. Light pages
// run dark on light, dark pages light on dark.

/** Colours of arms on light ground, as analysis/style.py has them. */
export const ARM_COLOURS = ["#0072b2", "#d55e00", "#00805e", "#b0568c", "#8a6a00", "#5b4fa0"];

const HEAT_STOPS = {
  light: [
    [250, 251, 252],
    [214, 228, 236],
    [160, 198, 216],
    [95, 161, 190],
    [38, 118, 156],
    [20, 76, 117],
    [16, 36, 76],
  ],
  dark: [
    [17, 21, 28],
    [24, 48, 74],
    [27, 82, 112],
    [34, 120, 140],
    [78, 160, 148],
    [158, 200, 140],
    [252, 240, 160],
  ],
};
const MEL_STOPS = {
  light: [
    [252, 252, 253],
    [205, 208, 214],
    [140, 145, 154],
    [52, 57, 66],
  ],
  dark: [
    [15, 17, 22],
    [52, 57, 66],
    [120, 126, 136],
    [224, 228, 234],
  ],
};

/** 256 colours along the stops. @param {number[][]} stops */
function ramp(stops) {
  const table = new Uint8ClampedArray(256 * 3);
  for (let level = 0; level < 256; level += 1) {
    const position = (level / 255) * (stops.length - 1);
    const left = Math.min(Math.floor(position), stops.length - 2);
    for (let channel = 0; channel < 3; channel += 1) {
      const from = stops[left][channel];
      table[3 * level + channel] = from + (stops[left + 1][channel] - from) * (position - left);
    }
  }
  return table;
}

export const RAMPS = {
  light: { heat: ramp(HEAT_STOPS.light), mel: ramp(MEL_STOPS.light) },
  dark: { heat: ramp(HEAT_STOPS.dark), mel: ramp(MEL_STOPS.dark) },
};

/** The colour map as a CSS gradient. @param {Uint8ClampedArray} table */
export function rampCss(table) {
  const stops = [];
  for (let level = 0; level < 256; level += 17)
    stops.push(`rgb(${table[3 * level]} ${table[3 * level + 1]} ${table[3 * level + 2]})`);
  return `linear-gradient(to right, ${stops.join(", ")})`;
}

/** @param {Element} element */
export const isDark = (element) => getComputedStyle(element).getPropertyValue("--mp-theme").trim() === "dark";

/** Calls `change` when the theme of the page changes. @param {Element} element @param {() => void} change */
export function watchTheme(element, change) {
  let dark = isDark(element);
  const look = () => {
    if (element.isConnected && isDark(element) !== dark) {
      dark = isDark(element);
      change();
    }
  };
  new MutationObserver(look).observe(document.body, { attributes: true, attributeFilter: ["class"] });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", look);
}

/** A picture with one pixel a cell. @param {number} width @param {number} height @param {(x: number, y: number) => number} level 0 to 255 @param {Uint8ClampedArray} table */
export function paint(width, height, level, table) {
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, width);
  canvas.height = Math.max(1, height);
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  const image = context.createImageData(canvas.width, canvas.height);
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      const l = level(x, y);
      const k = 4 * (y * width + x);
      image.data[k] = table[3 * l];
      image.data[k + 1] = table[3 * l + 1];
      image.data[k + 2] = table[3 * l + 2];
      image.data[k + 3] = 255;
    }
  }
  context.putImageData(image, 0, 0);
  return canvas;
}
