// @ts-check
// Files reach the server through Gradio's own upload buttons, which nobody sees: it alone may name a file of the visitor.

/** The file input of the upload button with this id. @param {string} id @returns {HTMLInputElement | null} */
export function inputOf(id) {
  const button = document.getElementById(id);
  const before = button && button.previousElementSibling; // Gradio puts it there
  return before instanceof HTMLInputElement && before.type === "file" ? before : null;
}
