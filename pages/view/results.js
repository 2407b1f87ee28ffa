// @ts-check
// Stored results: a comparison as a file, kept by the app for a while, and opened again. The server checks what is opened.

/** Whether a file is a stored comparison, by its name. @param {File} file */
export const isResult = (file) => /\.json$/i.test(file.name);

/**
 * Have the server check a comparison, and keep it where it may.
 * @param {string} home address of the app @param {string} text the comparison as JSON
 * @returns {Promise<string | null>} what the address names it by; null where nothing is kept
 */
export async function storeResult(home, text) {
  const answer = await fetch(`${home}/results`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: text,
  });
  const value = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(value.error || "The app did not take the result: try again.");
  return value.id;
}

/** A result that is kept; null where it is not, any more. @param {string} home @param {string} id */
export async function fetchResult(home, id) {
  try {
    const answer = await fetch(`${home}/results/${encodeURIComponent(id)}`);
    return answer.ok ? await answer.json() : null;
  } catch {
    return null;
  }
}

/** The sound of a comparison as a file, to ask something else of it. @param {any} clip */
export async function soundFileOf(clip) {
  const blob = await (await fetch(clip.audio)).blob();
  const name = clip.name.replace(/\.[^.]*$/, "") || "sound";
  return new File([blob], `${name}.${blob.type === "audio/mpeg" ? "mp3" : blob.type.split("/")[1]}`, {
    type: blob.type,
  });
}
