// @ts-check
// The comparison as one picture for a slide or a paper: question, answers, claims, decay and where each arm listened.

import { pictureOf } from "./arrays.js";
import { ARM_COLOURS } from "./colours.js";
import { heatPicture, melPicture } from "./tracks.js";
import { saveFile, shorten, svg } from "../../analysis/view/dom.js";
import { LETTERS, countsOf, courseText, soundsOf, verdictOf } from "./words.js";

const WIDTH = 1200;
const [LEFT, PLOT] = [210, 960];
const INK = "#1b2130";
const SOFT = "#576071";

/** @param {number} x @param {number} y @param {string} words @param {Record<string, any>} [attributes] */
const text = (x, y, words, attributes) =>
  svg("text", { x, y, fill: INK, "font-size": 15, "font-family": "system-ui, sans-serif", ...attributes }, words);

/** The picture as an SVG element, always light. @param {any} doc @param {string} mode raw or length @param {(index: number) => string} name @param {number[]} colours */
export function figureOf(doc, mode, name, colours) {
  const parts = [
    text(30, 40, shorten(doc.question.text, 110), { "font-size": 22, "font-weight": 650 }),
    text(
      30,
      64,
      `${doc.clip.name}, ${doc.clip.seconds.toFixed(1)} s${doc.question.answer ? `. Right answer: ${shorten(doc.question.answer, 60)}` : ""}`,
      { fill: SOFT },
    ),
  ];
  let y = 84;
  const scale = PLOT / doc.clip.seconds;
  if (soundsOf(doc).length) {
    for (const event of soundsOf(doc)) {
      if (event.onset_s === null || event.offset_s === null) continue;
      parts.push(
        svg("rect", {
          x: LEFT + event.onset_s * scale,
          y,
          width: (event.offset_s - event.onset_s) * scale,
          height: 20,
          fill: "#e6eef5",
          stroke: "#14527d",
          rx: 3,
        }),
        text(
          LEFT + event.onset_s * scale + 4,
          y + 15,
          shorten(event.label, Math.max(2, Math.floor(((event.offset_s - event.onset_s) * scale) / 8))),
          { "font-size": 13 },
        ),
      );
    }
    parts.push(
      text(LEFT - 10, y + 15, doc.truth ? "in the clip" : "a tagger’s opinion", { "text-anchor": "end", fill: SOFT }),
    );
    y += 28;
  }
  const image = (
    /** @type {HTMLCanvasElement} */ canvas,
    /** @type {number} */ start,
    /** @type {number} */ seconds,
    /** @type {number} */ top,
    /** @type {number} */ height,
    /** @type {string} */ how,
  ) =>
    svg("image", {
      href: canvas.toDataURL("image/png"),
      x: LEFT + start * scale,
      y: top,
      width: seconds * scale,
      height,
      preserveAspectRatio: "none",
      style: `image-rendering:${how}`,
    });
  if (doc.clip.mel) {
    parts.push(
      image(
        melPicture(doc.clip.mel, false),
        doc.clip.mel.start_s,
        doc.clip.mel.column_s * doc.clip.mel.shape[1],
        y,
        70,
        "auto",
      ),
      text(LEFT - 10, y + 40, "sound", { "text-anchor": "end", fill: SOFT }),
    );
    y += 82;
  }
  const top = doc.scales ? doc.scales.line[mode] : 1;
  const longest = Math.max(1, ...doc.arms.map((/** @type {any} */ arm) => (arm.attention ? arm.attention.tokens : 0)));
  doc.arms.forEach((/** @type {any} */ arm, /** @type {number} */ index) => {
    const verdict = verdictOf(arm, doc.question);
    const counts = countsOf(arm.cafe);
    parts.push(
      text(
        30,
        y + 16,
        `${LETTERS[index]}  ${name(index)}: ${arm.answer ? shorten(arm.answer, 50) : "no answer"}${verdict ? `  ${verdict.text}` : ""}${counts && counts[0].of ? `, ${counts[0].text}` : ""}`,
        { "font-weight": 600 },
      ),
    );
    y += 26;
    const { attention } = arm;
    if (attention) {
      const points = attention.course[mode]
        .map(
          (/** @type {number} */ value, /** @type {number} */ t) =>
            `${(LEFT + (PLOT * (t + 0.5)) / longest).toFixed(1)},${(y + 44 - (40 * value) / Math.max(top, 1e-9)).toFixed(1)}`,
        )
        .join(" ");
      parts.push(
        svg("rect", { x: LEFT, y, width: PLOT, height: 46, fill: "#f5f7f9" }),
        svg("polyline", {
          points,
          fill: "none",
          stroke: ARM_COLOURS[colours[index] % ARM_COLOURS.length],
          "stroke-width": 2,
        }),
        text(LEFT - 10, y + 28, "along the trace", { "text-anchor": "end", fill: SOFT, "font-size": 13 }),
        text(LEFT + PLOT, y - 8, courseText(attention, mode), { "text-anchor": "end", fill: SOFT, "font-size": 12 }),
      );
      y += 52;
      if (attention.views.length && doc.scales) {
        const picture = pictureOf(attention.views[0].pictures, mode);
        const high = Math.max(14, Math.min(14 * picture.rows, 150));
        parts.push(
          image(
            heatPicture(
              picture,
              Array.from({ length: picture.rows }, (_, i) => i),
              doc.scales.passages[mode],
              false,
            ),
            0,
            attention.column_s * picture.columns,
            y,
            high,
            "pixelated",
          ),
          text(LEFT - 10, y + 12, "over the clip", { "text-anchor": "end", fill: SOFT, "font-size": 13 }),
        );
        y += high + 14;
      }
    }
  });
  parts.push(
    text(
      30,
      y + 12,
      `MPAR², mpar2 ${doc.package}, ${doc.created}. ${doc.credits ? shorten(`Sound: ${doc.credits}`, 120) : ""}`,
      { fill: SOFT, "font-size": 11 },
    ),
  );
  return svg(
    "svg",
    { xmlns: "http://www.w3.org/2000/svg", viewBox: `0 0 ${WIDTH} ${y + 28}`, width: WIDTH, height: y + 28 },
    svg("rect", { width: "100%", height: "100%", fill: "#ffffff" }),
    parts,
  );
}

/** Save the picture. @param {any} drawing @param {string} name @param {"svg" | "png"} kind */
export async function saveFigure(drawing, name, kind) {
  const source = new XMLSerializer().serializeToString(drawing);
  if (kind === "svg") {
    saveFile(`${name}.svg`, "image/svg+xml", source);
    return;
  }
  const image = new Image();
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(source)}`;
  await image.decode();
  const canvas = document.createElement("canvas");
  canvas.width = 2 * image.width;
  canvas.height = 2 * image.height;
  /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d")).drawImage(image, 0, 0, canvas.width, canvas.height);
  const blob = await new Promise((done) => canvas.toBlob(done, "image/png"));
  saveFile(`${name}.png`, "image/png", blob);
}
