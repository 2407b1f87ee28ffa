// Building blocks of the comparison view: elements, numbers in words, colours.
//
// Everything shown here (traces, questions, labels, file names) is untrusted text. It enters the page only as text
// nodes and attribute values through h(); no string is ever parsed as HTML.

const SAFE_ATTRIBUTES = /^(class|id|for|type|name|value|title|role|tabindex|dir|lang|min|max|step|scope|colspan|open|checked|disabled|download|aria-[a-z]+|data-[a-z-]+)$/;

function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on") && typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (name === "style" && typeof value === "object") {
      for (const [property, setting] of Object.entries(value)) element.style.setProperty(property, setting);
    } else if (SAFE_ATTRIBUTES.test(name)) element.setAttribute(name, value === true ? "" : String(value));
    else throw new Error(`attribute ${name} is not on the list`);
  }
  append(element, children);
  return element;
}

function append(element, children) {
  for (const child of children.flat(3)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
const percent = (share, digits = 1) => (Number.isFinite(share) ? `${(100 * share).toFixed(digits)} %` : "–");
const seconds = (value) => (Number.isFinite(value) ? `${value.toFixed(value < 100 ? 1 : 0)} s` : "–");
const interval = (start, stop) => { const digits = stop - start < 0.15 ? 2 : 1; return `${start.toFixed(digits)}–${stop.toFixed(digits)} s`; };
const times = (ratio) => (Number.isFinite(ratio) ? `${ratio.toFixed(ratio < 10 ? 2 : 1)}×` : "–");

function shorten(text, limit) {
  const characters = Array.from(text);
  return characters.length <= limit ? text : `${characters.slice(0, limit - 1).join("")}…`;
}

// Sequential maps whose lightness changes evenly, so that they also read in grey and for colour-blind eyes.
// Stops are sRGB; nearly equal steps in lightness lie between them. Light pages run dark on light, dark pages light on dark.
const HEAT_STOPS = {
  light: [[250, 251, 252], [214, 228, 236], [160, 198, 216], [95, 161, 190], [38, 118, 156], [20, 76, 117], [16, 36, 76]],
  dark: [[17, 21, 28], [24, 48, 74], [27, 82, 112], [34, 120, 140], [78, 160, 148], [158, 200, 140], [252, 240, 160]],
};
const MEL_STOPS = {
  light: [[252, 252, 253], [205, 208, 214], [140, 145, 154], [52, 57, 66]],
  dark: [[15, 17, 22], [52, 57, 66], [120, 126, 136], [224, 228, 234]],
};

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

const RAMPS = {
  light: { heat: ramp(HEAT_STOPS.light), mel: ramp(MEL_STOPS.light) },
  dark: { heat: ramp(HEAT_STOPS.dark), mel: ramp(MEL_STOPS.dark) },
};

function rampCss(table) {
  const stops = [];
  for (let level = 0; level < 256; level += 17) {
    stops.push(`rgb(${table[3 * level]} ${table[3 * level + 1]} ${table[3 * level + 2]})`);
  }
  return `linear-gradient(to right, ${stops.join(", ")})`;
}

const isDark = (element) => getComputedStyle(element).getPropertyValue("--mp-theme").trim() === "dark";
