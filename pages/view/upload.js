// @ts-check
// Files reach the server through Gradio's own upload buttons, which nobody sees: it alone may name a file of the visitor.

/** The file input of the upload button with this id. @param {string} id @returns {HTMLInputElement | null} */
export function inputOf(id) {
  const button = document.getElementById(id);
  const before = button && button.previousElementSibling; // Gradio puts it there
  return before instanceof HTMLInputElement && before.type === "file" ? before : null;
}

/** The files that were dropped, those of a dropped folder included (not of folders in it). @param {DataTransfer} dropped @returns {Promise<File[]>} */
export async function filesOf(dropped) {
  const entries = Array.from(dropped.items, (item) => item.webkitGetAsEntry());
  const folders = /** @type {FileSystemDirectoryEntry[]} */ (entries.filter((entry) => entry?.isDirectory));
  if (!folders.length) return Array.from(dropped.files);
  /** @type {File[]} */
  const found = [];
  for (const entry of entries) if (entry?.isFile) found.push(await fileOf(/** @type {FileSystemFileEntry} */ (entry)));
  for (const folder of folders) {
    const reader = folder.createReader();
    for (;;) {
      const some = await new Promise((done, fail) => reader.readEntries(done, fail)); // a hundred at a time
      if (!some.length) break;
      for (const inner of some) if (inner.isFile) found.push(await fileOf(inner));
    }
  }
  return found;
}
/** @param {FileSystemFileEntry} entry @returns {Promise<File>} */
const fileOf = (entry) => new Promise((done, fail) => entry.file(done, fail));
