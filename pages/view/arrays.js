// @ts-check
// Packed arrays of the document: one byte a value, one float32 scale a row (the last axis): value = byte / 255 * scale.

/** @param {string} base64 */
export function bytesOf(base64) {
  const binary = atob(base64);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i += 1) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

/** @type {WeakMap<object, { rows: number, columns: number, at: (row: number, column: number) => number }>} */
const opened = new WeakMap();

/**
 * A picture of the document as rows and columns of numbers; twin of `pages.attention_pack.unpack`.
 * @param {Record<string, any>} pictures by mode
 * @param {string} mode falls back to the mode without "_clean" where no sink was taken away
 */
export function pictureOf(pictures, mode) {
  const packed = pictures[mode] || pictures[mode.replace("_clean", "")];
  const known = opened.get(packed);
  if (known) return known;
  const bytes = bytesOf(packed.data === null ? pictures[packed.as].data : packed.data);
  const scale = new Float32Array(bytesOf(packed.scale).buffer);
  const [rows, columns] = packed.shape;
  const made = {
    rows,
    columns,
    at: (/** @type {number} */ row, /** @type {number} */ column) => (bytes[row * columns + column] / 255) * scale[row],
  };
  opened.set(packed, made);
  return made;
}
