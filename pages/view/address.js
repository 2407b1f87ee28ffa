// @ts-check
// The address of what is on the screen: tab, example, question, arms, selection; run, metric, item of the analysis. Back works.

import { soundsOf } from "./words.js";

/** What the address names now. @returns {URLSearchParams} */
export const address = () => new URLSearchParams(location.search);

/**
 * Change some of it: null takes a name away, a list writes it several times.
 * @param {Record<string, string | string[] | null>} changes @param {boolean} [step] whether Back comes back here
 */
export function setAddress(changes, step = false) {
  const query = address();
  for (const [name, value] of Object.entries(changes)) {
    query.delete(name);
    if (Array.isArray(value)) value.forEach((one) => query.append(name, one));
    else if (value !== null) query.set(name, value);
  }
  const text = query.toString();
  const next = `${location.pathname}${text ? `?${text}` : ""}`;
  if (next === `${location.pathname}${location.search}`) return;
  if (step) history.pushState(null, "", next);
  else history.replaceState(null, "", next);
}

/** A choice in the trace as a few letters, and back: "1w12" is word 12 of the second arm. @param {any} choice */
export function choiceText(choice) {
  if (!choice) return null;
  if (choice.event !== undefined) return `e${choice.event}`;
  for (const [letter, key] of [
    ["c", "claim"],
    ["p", "passage"],
    ["w", "word"],
  ])
    if (choice[key] !== undefined) return `${choice.arm}${letter}${choice[key]}`;
  return null;
}

/** @param {string | null} text @param {any} doc */
export function choiceOf(text, doc) {
  const match = /^(\d?)([ecpw])(\d{1,4})$/.exec(text || "");
  if (!match) return null;
  const [arm, number] = [Number(match[1] || 0), Number(match[3])];
  const one = doc.arms[arm];
  if (!one) return null;
  if (match[2] === "e") return number < soundsOf(doc).length ? { arm: 0, event: number } : null;
  if (match[2] === "c")
    return one.cafe && one.cafe.claims && number < one.cafe.claims.length ? { arm, claim: number } : null;
  if (match[2] === "p")
    return one.attention && number < one.attention.passages.length ? { arm, passage: number } : null;
  return number < one.words.length ? { arm, word: number } : null;
}

const TABS = ["compare", "analysis"];

const tabButtons = () => Array.from(document.querySelectorAll("#tabs > .tab-wrapper button[role=tab]"));
const tabName = (/** @type {Element} */ button) => (button.textContent || "").trim().toLowerCase();

/** Show a tab, as a step that Back takes back. @param {string} name */
export function openTab(name) {
  setAddress({ tab: name === "compare" ? null : name }, true);
  showTab();
}
export function showTab() {
  const wanted = TABS.includes(address().get("tab") || "") ? address().get("tab") : "compare";
  const button = tabButtons().find((one) => tabName(one) === wanted);
  if (button && button.getAttribute("aria-selected") !== "true") /** @type {HTMLElement} */ (button).click();
}

/** Gradio's own tabs follow the address, and the address follows them. */
export function followTabs() {
  document.addEventListener("click", (event) => {
    const button =
      event.target instanceof Element ? event.target.closest("#tabs > .tab-wrapper button[role=tab]") : null;
    if (!button || !event.isTrusted) return;
    const name = tabName(button);
    setAddress({ tab: name === "compare" ? null : name }, true);
  });
  window.addEventListener("popstate", showTab);
  showTab();
}
