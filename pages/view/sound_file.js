// @ts-check
// A visitor's sound before it is sent: its length, and the stretch of it that is kept where it is too long; the microphone.

const RATE = 16000;

/** Decode a file; null where this browser cannot (the server will say what it is). @param {Blob} file */
export async function decoded(file) {
  try {
    return await new OfflineAudioContext(1, 1, RATE).decodeAudioData(await file.arrayBuffer());
  } catch {
    return null;
  }
}

/** A stretch as a mono WAV file of 16 bit. @param {AudioBuffer} buffer @param {number} start @param {number} stop @param {string} name */
export function stretchOf(buffer, start, stop, name) {
  const [from, to] = [
    Math.floor(start * buffer.sampleRate),
    Math.min(buffer.length, Math.ceil(stop * buffer.sampleRate)),
  ];
  const mono = new Float32Array(Math.max(0, to - from));
  for (let channel = 0; channel < buffer.numberOfChannels; channel += 1) {
    const samples = buffer.getChannelData(channel);
    for (let i = from; i < to; i += 1) mono[i - from] += samples[i] / buffer.numberOfChannels;
  }
  return new File([wavBytes(mono, buffer.sampleRate)], `${name.replace(/\.[^.]*$/, "")}.wav`, { type: "audio/wav" });
}

/** @param {Float32Array} samples @param {number} rate */
export function wavBytes(samples, rate) {
  const bytes = new ArrayBuffer(44 + 2 * samples.length);
  const view = new DataView(bytes);
  const text = (/** @type {number} */ at, /** @type {string} */ letters) => {
    for (let i = 0; i < letters.length; i += 1) view.setUint8(at + i, letters.charCodeAt(i));
  };
  text(0, "RIFF");
  view.setUint32(4, 36 + 2 * samples.length, true);
  text(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true);
  view.setUint16(22, 1, true);
  view.setUint32(24, rate, true);
  view.setUint32(28, 2 * rate, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  text(36, "data");
  view.setUint32(40, 2 * samples.length, true);
  for (let i = 0; i < samples.length; i += 1)
    view.setInt16(44 + 2 * i, Math.round(Math.max(-1, Math.min(1, samples[i])) * 32767), true);
  return bytes;
}

/** Record until `stop()`; resolves to the recording. Rejects with words where the microphone cannot be had. */
export async function record() {
  if (!navigator.mediaDevices || !window.MediaRecorder)
    throw new Error(
      window.isSecureContext
        ? "This browser cannot record."
        : "Browsers record on https pages only: upload a file instead.",
    );
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ audio: true });
  } catch (error) {
    const name = error instanceof DOMException ? error.name : "";
    throw new Error(
      name === "NotFoundError"
        ? "No microphone was found: connect one, or upload a file."
        : "The microphone is not allowed here: allow it in the browser's address bar, or upload a file.",
    );
  }
  const recorder = new MediaRecorder(stream);
  /** @type {Blob[]} */
  const parts = [];
  recorder.addEventListener("dataavailable", (event) => parts.push(event.data));
  const ended = new Promise((resolve) => {
    recorder.addEventListener("stop", () => {
      stream.getTracks().forEach((track) => track.stop());
      resolve(new File(parts, "recording.webm", { type: recorder.mimeType }));
    });
  });
  recorder.start();
  return { stop: () => recorder.stop(), ended: /** @type {Promise<File>} */ (ended) };
}
