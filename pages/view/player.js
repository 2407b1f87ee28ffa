// The one player of the view: plays the clip or a stretch of it, and tells everybody where it is.
//
// makePlayer(root, view, slots) -> { play, seek, toggle, load, pause, setPlayhead }. Times are seconds from the start of
// the clip; the playhead of every picture follows the variable --mp-play of `root`. `slots` holds button, clock, slider.

function makePlayer(root, view, slots) {
  const audio = new Audio();
  audio.preload = "auto";
  let until = null;
  const clipSeconds = () => view.doc.clip.seconds;

  function setPlayhead() {
    const place = view.doc ? clamp(audio.currentTime / clipSeconds(), 0, 1) : 0;
    root.style.setProperty("--mp-play", String(place));
    if (slots.clock) slots.clock.textContent = `${audio.currentTime.toFixed(1)} / ${seconds(clipSeconds())}`;
    if (slots.scrub && document.activeElement !== slots.scrub) slots.scrub.value = String(audio.currentTime);
  }
  function frame() {
    setPlayhead();
    if (until !== null && audio.currentTime >= until) { until = null; audio.pause(); }
    if (!audio.paused) requestAnimationFrame(frame);
  }
  function play(start, stop) {
    if (!audio.src) return;
    until = stop === undefined ? null : Math.max(stop, start + 0.3);
    if (start !== undefined) audio.currentTime = clamp(start, 0, Math.max(0, clipSeconds() - 0.05));
    audio.play().catch(() => {});
  }
  function seek(time) {
    until = null;
    audio.currentTime = clamp(time, 0, clipSeconds());
    setPlayhead();
  }
  function load(source) {
    if (audio.src === source) return;
    audio.pause();
    if (source) audio.src = source; else audio.removeAttribute("src");
  }
  audio.addEventListener("play", () => { slots.play.textContent = "❚❚ Pause"; requestAnimationFrame(frame); });
  audio.addEventListener("pause", () => { if (slots.play) slots.play.textContent = "▶ Play"; setPlayhead(); });
  audio.addEventListener("seeked", setPlayhead);
  return {
    play, seek, load, setPlayhead,
    pause: () => audio.pause(),
    toggle() { if (audio.paused) play(audio.ended ? 0 : undefined); else audio.pause(); },
  };
}
