// @ts-check
// True sounds as text: lines that a visitor types, and Audacity's label files (start TAB end TAB label).

/** @typedef {{ label: string, onset_s: number | null, offset_s: number | null }} SoundEvent */

const TIMES = /(?:^|\s)(\d+(?:[.,]\d+)?)\s*s?\s*[-–—]\s*(\d+(?:[.,]\d+)?)\s*s?\s*$/i;
const ALMOST_TIMES = /(?:^|\s)(?:[\d.,:]*\d[\d.,:]*\s*s?\s*[-–—].*|[-–—]\s*\S*)$|\d[.,:]\d/;
const number = (/** @type {string} */ text) => Number(text.replace(",", "."));

/**
 * Lines as a visitor types them ("dog bark 0.5-1.5", "rain"), by the rule of pages.running.parse_events.
 * @param {string} text @param {number} duration seconds of the clip
 * @returns {{ events: SoundEvent[], problems: string[] }}
 */
export function eventsOf(text, duration) {
  /** @type {SoundEvent[]} */
  const events = [];
  /** @type {string[]} */
  const problems = [];
  text.split(/\r\n|\n|\r/).forEach((line, index) => {
    const words = line.trim();
    if (!words) return;
    const where = `Line ${index + 1}`;
    const match = TIMES.exec(words);
    if (!match) {
      if (ALMOST_TIMES.test(words))
        problems.push(
          `${where}, “${words.slice(0, 40)}”: write a name and its times in seconds, as in dog bark 0.5-1.5, or the name alone.`,
        );
      else events.push({ label: words.slice(0, 120), onset_s: null, offset_s: null });
      return;
    }
    const [label, start, stop] = [words.slice(0, match.index).trim(), number(match[1]), number(match[2])];
    if (!label) problems.push(`${where} has times but no name.`);
    else if (!(start < stop && stop <= duration + 0.5))
      problems.push(
        `${where}, “${label.slice(0, 40)}”: ${start} to ${stop} s is not within the clip (${duration.toFixed(1)} s).`,
      );
    else events.push({ label: label.slice(0, 120), onset_s: start, offset_s: Math.min(stop, duration) });
  });
  return { events, problems };
}

/** The lines that `eventsOf` reads back. @param {SoundEvent[]} events */
export function linesOf(events) {
  return events
    .map(({ label, onset_s, offset_s }) =>
      onset_s === null || offset_s === null ? label : `${label} ${+onset_s.toFixed(2)}-${+offset_s.toFixed(2)}`,
    )
    .join("\n");
}

/** An Audacity label file. @param {SoundEvent[]} events */
export function toLabels(events) {
  const timed = events.filter((event) => event.onset_s !== null && event.offset_s !== null);
  return `${timed.map((event) => [/** @type {number} */ (event.onset_s).toFixed(6), /** @type {number} */ (event.offset_s).toFixed(6), event.label.replace(/[\t\r\n]+/g, " ")].join("\t")).join("\n")}\n`;
}

/**
 * Read an Audacity label file; a line that starts with "\" is the frequency range of the label before it.
 * @param {string} text @param {number} duration
 * @returns {{ events: SoundEvent[], problems: string[] }}
 */
export function fromLabels(text, duration) {
  /** @type {SoundEvent[]} */
  const events = [];
  /** @type {string[]} */
  const problems = [];
  text
    .replace(/^\uFEFF/, "")
    .split(/\r\n|\n|\r/)
    .forEach((line, index) => {
      if (!line.trim() || line.startsWith("\\")) return;
      const [start, stop, ...rest] = line.split("\t");
      const [from, to] = [number(String(start)), number(String(stop))];
      if (
        stop === undefined ||
        !Number.isFinite(from) ||
        !Number.isFinite(to) ||
        from < 0 ||
        to < from ||
        from >= duration
      )
        problems.push(`Line ${index + 1} of the label file is not “start, end, label” within the clip.`);
      else
        events.push({
          label: rest.join(" ").trim().slice(0, 120) || "sound",
          onset_s: from,
          offset_s: Math.min(Math.max(to, from + 0.02), duration),
        });
    });
  return { events, problems };
}
