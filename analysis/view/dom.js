// @ts-check
// Building blocks: elements, icons, numbers in words.
//
// Everything shown (traces, questions, labels, file names) is untrusted text. It enters the page only as text nodes and
// attribute values through h(); no string is ever parsed as HTML.

const SAFE_ATTRIBUTES =
  /^(class|id|for|type|name|value|title|role|tabindex|dir|lang|min|max|step|scope|colspan|open|checked|selected|disabled|readonly|required|multiple|hidden|download|accept|rows|maxlength|placeholder|autocomplete|inputmode|label|width|height|aria-[a-z]+|data-[a-z-]+)$/;
const SVG_NAMESPACE = "http://www.w3.org/2000/svg";

/**
 * An element with attributes, listeners (`onclick`) and children; texts become text nodes.
 * @param {string} tag
 * @param {Record<string, any>} [attributes]
 * @param {...any} children
 * @returns {any}
 */
export function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on") && typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (name === "style" && typeof value === "object") {
      for (const [property, setting] of Object.entries(value)) element.style.setProperty(property, setting);
    } else if (SAFE_ATTRIBUTES.test(name)) element.setAttribute(name, value === true ? "" : String(value));
    else throw new Error(`attribute ${name} is not on the list`);
  }
  fill(element, children);
  return element;
}

/** How many times larger than usual the reader's letters are: what is drawn in pixels beside them grows with them. */
export const textScale = () => Number.parseFloat(getComputedStyle(document.documentElement).fontSize) / 16;

/** Put children behind those of `element`. @param {Element} element @param {any[]} children */
export function fill(element, children) {
  for (const child of children.flat(4)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

const CONTROLS = "a[href], button, input, select, textarea, summary, [tabindex]";

/** Replace what `element` holds; a control that had the focus hands it to its successor. @param {Element} element @param {...any} children */
export function refill(element, ...children) {
  const held = element.contains(document.activeElement) ? document.activeElement : null;
  const place = held ? Array.from(element.querySelectorAll(CONTROLS)).indexOf(held) : -1;
  element.replaceChildren();
  fill(element, children);
  if (!held || place < 0 || document.activeElement !== document.body) return;
  const controls = Array.from(element.querySelectorAll(CONTROLS));
  const next = /** @type {any} */ (controls[Math.min(place, controls.length - 1)]);
  if (next && next.tagName === held.tagName && next.className === held.className) next.focus({ preventScroll: true });
}

/** An SVG element; attribute values are made by this script, texts are text nodes. @param {string} tag @param {Record<string, any>} attributes @param {...any} children @returns {any} */
export function svg(tag, attributes, ...children) {
  const element = document.createElementNS(SVG_NAMESPACE, tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false || name.startsWith("on")) continue;
    element.setAttribute(name, String(value));
  }
  fill(element, children);
  return element;
}

const ICONS = {
  play: "M7 4.5v15l12-7.5z",
  pause: "M7 5h4v14H7zM13 5h4v14h-4z",
  loop: "M4 12a7 7 0 0 1 12-5l2-2v6h-6l2.3-2.3A4.5 4.5 0 0 0 6.5 12zM20 12a7 7 0 0 1-12 5l-2 2v-6h6l-2.3 2.3a4.500 4.500 0 0 0 7.800-3.300z",
  plus: "M11 5h2v6h6v2h-6v6h-2v-6H5v-2h6z",
  minus: "M5 11h14v2H5z",
  close:
    "M6.400 5 5 6.400 10.600 12 5 17.600 6.400 19l5.600-5.600 5.600 5.600 1.400-1.400-5.600-5.600 5.600-5.600L17.600 5 12 10.600z",
  previous: "M15 5 8 12l7 7z",
  next: "M9 5l7 7-7 7z",
  up: "M12 4 5 11h4v9h6v-9h4z",
  record: "M12 6a6 6 0 1 0 0 12 6 6 0 0 0 0-12z",
  stop: "M6 6h12v12H6z",
  rows: "M4 5h16v3H4zM4 10.500h16v3H4zM4 16h16v3H4z",
  more: "M5 10a2 2 0 1 0 0 4 2 2 0 0 0 0-4zm7 0a2 2 0 1 0 0 4 2 2 0 0 0 0-4zm7 0a2 2 0 1 0 0 4 2 2 0 0 0 0-4z",
  screen: "M4 4h6v2H6v4H4zM14 4h6v6h-2V6h-4zM4 14h2v4h4v2H4zM18 14h2v6h-6v-2h4z",
  words: "M4 6h16v2H4zM4 11h10v2H4zM4 16h13v2H4z",
};

/** A drawn icon; it says nothing to screen readers. @param {keyof typeof ICONS} name */
export function icon(name) {
  return svg(
    "svg",
    { viewBox: "0 0 24 24", width: 18, height: 18, "aria-hidden": "true", class: "mp-icon" },
    svg("path", { d: ICONS[name], fill: "currentColor" }),
  );
}

/** A button that shows an icon, or an icon and a word. @param {keyof typeof ICONS} name @param {string} label @param {Record<string, any>} attributes @param {boolean} [worded] */
export function iconButton(name, label, attributes, worded = false) {
  return h(
    "button",
    {
      type: "button",
      "aria-label": worded ? null : label,
      title: label,
      ...attributes,
      class: `mp-button ${worded ? "" : "mp-square"} ${attributes.class || ""}`,
    },
    icon(name),
    worded ? h("span", {}, label) : null,
  );
}

/** @param {number} value @param {number} low @param {number} high */
export const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
const isNumber = (/** @type {any} */ value) => typeof value === "number" && Number.isFinite(value);
/** @param {number | null | undefined} share @param {number} [digits] */
export const percent = (share, digits = 0) =>
  isNumber(share) ? `${(100 * /** @type {number} */ (share)).toFixed(digits)} %` : "–";
/** @param {number | null | undefined} ratio */
export const times = (ratio) => (isNumber(ratio) ? `${/** @type {number} */ (ratio).toFixed(2)}×` : "–");
/** @param {number | null | undefined} value */
export const seconds = (value) =>
  isNumber(value) ? `${/** @type {number} */ (value).toFixed(/** @type {number} */ (value) < 100 ? 1 : 0)} s` : "–";
/** A stretch of time; short ones with two digits. @param {number} start @param {number} stop */
export function interval(start, stop) {
  const digits = stop - start < 0.15 ? 2 : 1;
  return `${start.toFixed(digits)}–${stop.toFixed(digits)} s`;
}
/** A message of the server as a sentence; the name of a file at its start stays as it is. @param {string} message */
export function sentence(message) {
  const text = /^[^:]+\.\w{1,5}:/.test(message) ? message : message.charAt(0).toUpperCase() + message.slice(1);
  return /[.!?]$/.test(text) ? text : `${text}.`;
}
/** @param {number} count @param {string} one @param {string} [many] */
export const plural = (count, one, many) => `${count} ${count === 1 ? one : many || `${one}s`}`;
/** A number with the sign of what is shown: no “−0”. @param {number} value @param {number} [digits] */
export function signed(value, digits = 0) {
  const rounded = Number(value.toFixed(digits));
  return `${rounded > 0 ? "+" : rounded < 0 ? "−" : "±"}${Math.abs(value).toFixed(digits)}`;
}
/** @param {string} text @param {number} limit */
export function shorten(text, limit) {
  const characters = Array.from(String(text));
  return characters.length <= limit ? String(text) : `${characters.slice(0, limit - 1).join("")}…`;
}
/** Characters (code points) of a text, as spans count them. @param {string} text @returns {string[]} */
export const charactersOf = (text) => Array.from(text || "");

/** Offer text or a blob as a file. @param {string} name @param {string} type @param {any} content */
export function saveFile(name, type, content) {
  const link = h("a", { download: name });
  link.href = URL.createObjectURL(new Blob([content], { type }));
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 5000);
}

/** Whether an element takes typed text, so that shortcuts leave it alone. @param {any} target */
export function takesText(target) {
  const node = target instanceof Element ? target : null;
  return Boolean(
    node &&
      (/^(TEXTAREA|SELECT)$/.test(node.tagName) ||
        (node.tagName === "INPUT" && !/^(checkbox|radio|range|button|file)$/.test(/** @type {any} */ (node).type)) ||
        /** @type {any} */ (node).isContentEditable),
  );
}
