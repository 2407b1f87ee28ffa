// A first visit: what audio perception decay is, in three steps on the comparison that is on the screen.
//
// It opens by itself once, on a stored comparison, takes no focus, and is remembered as seen in this browser; a button
// beside the downloads opens it again. makeGuide(root) -> { node, show(doc, pictures, running), open() }.

const GUIDE_KEY = "mpar2-guide-seen";

function guideSteps(doc, pictures) {
  const raw = { corrected: false };
  const names = doc.arms.map((arm, i) => `${"AB"[i]} (${shorten(arm.name, 40)})`);
  const courses = doc.arms.map((arm, i) => (pictures[i] && pictures[i].tokens >= 12 ? thirds(courseOf(arm, pictures[i], raw)) : null));
  const listened = courses.map((course, i) => (course ? `${names[i]} goes from ${percent(course.first)} in the first third to ${percent(course.last)} in the last. ` : ""));
  const heard = doc.arms.map((arm, i) => (arm.cafe && arm.cafe.counts && arm.cafe.counts.predicted
    ? `Of the claims of ${names[i]}, ${arm.cafe.counts.matched} of ${arm.cafe.counts.predicted} match. ` : ""));
  return [
    { title: "What each model says it hears", of: "trace",
      text: "One clip, one question, two models. Each writes a trace: what it hears, how it reasons, what it answers. The longer such models " +
        "reason, the less they go by the sound. That is audio perception decay (arXiv 2603.02266). Start by reading both traces." },
    { title: "Where it listens while it writes", of: "look",
      text: `The line shows how much of the model's attention falls on the audio, word by word. ${listened.join("")}` +
        "The picture under it shows which moments of the clip each part looked at. Press a part's name, or a word of the trace, to see and hear them." },
    { title: "Heard or made up?", of: "cafe",
      text: "Each sound that a trace claims is checked against the clip: matched (M), hallucinated (H) or misused (U). " +
        `${heard.join("")}One clip proves nothing: the Analysis tab shows over many clips whether longer reasoning hears worse.` },
  ];
}

function makeGuide(root) {
  const node = h("section", { class: "mp-guide", "aria-label": "What is audio perception decay? A guide in three steps" });
  let step = null; // 0, 1 or 2 while it is open
  let seen = false;
  let steps = [];
  try { seen = localStorage.getItem(GUIDE_KEY) === "yes"; } catch { /* storage may be forbidden; then it opens on each visit */ }

  function draw(moved) {
    if (step === null || !steps.length) { delete root.dataset.guide; node.replaceChildren(); return; }
    const { title, text, of } = steps[step];
    root.dataset.guide = of;
    const heading = h("h2", { tabindex: -1 }, title);
    node.replaceChildren(
      h("div", { class: "mp-guide-head" }, h("p", { class: "mp-guide-step" }, `What is audio perception decay? ${step + 1} of ${steps.length}`),
        h("button", { type: "button", class: "mp-clear", "data-guide-do": "close", "aria-label": "Close the guide" }, "×")),
      heading, h("p", { dir: "auto" }, text),
      h("div", { class: "mp-actions" },
        h("button", { type: "button", "data-guide-do": "back", disabled: step === 0 }, "Back"),
        h("button", { type: "button", class: "mp-next", "data-guide-do": step + 1 < steps.length ? "next" : "close" }, step + 1 < steps.length ? "Next" : "Done")));
    if (!moved) return;
    const target = root.querySelector(`.mp-arm [data-part="${of}"]`);
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    if (target) target.scrollIntoView({ block: "center", behavior: still ? "auto" : "smooth" });
    heading.focus({ preventScroll: true });
  }
  function remember() {
    step = null;
    seen = true;
    try { localStorage.setItem(GUIDE_KEY, "yes"); } catch { /* as above */ }
  }
  function close() {
    remember();
    draw(false);
    const again = root.querySelector('[data-do="guide"]');
    if (again) again.focus();
  }
  node.addEventListener("click", (event) => {
    const button = event.target.closest("[data-guide-do]");
    if (!button) return;
    event.stopPropagation();
    if (button.dataset.guideDo === "close") close();
    else { step = clamp(step + (button.dataset.guideDo === "next" ? 1 : -1), 0, steps.length - 1); draw(true); }
  });
  node.addEventListener("keydown", (event) => { if (event.key === "Escape") { event.stopPropagation(); close(); } });
  return {
    node,
    show(doc, pictures, running) {
      if (running && step !== null) remember(); // who asks a question of their own is past the first visit
      steps = running ? [] : guideSteps(doc, pictures);
      if (step === null && !seen && doc.stored) step = 0;
      draw(false);
    },
    open() { step = 0; draw(true); },
  };
}
