// The comparison view: one document in, the whole result out. Runs inside the app and inside the exported page.
//
// mountComparison(root, options) -> { show(doc) }. `doc` is the comparison document (pages/document.py says what it holds).
// options.guide: whether a first visit is guided. options.shell: async function that returns the exported page with a slot for the document; absent in the export itself.

const SLOT = "@@MPAR2_DOCUMENT@@";

function mountComparison(root, options) {
  const view = {
    id: `mp${(window.mpMounted = (window.mpMounted || 0) + 1)}`, // several views share a page, each with its own names
    doc: null, running: false, dark: false, plotWidth: 420, topShare: 1,
    settings: { rows: "parts", corrected: false, removeSinks: false, layers: [], heads: [] },
  };
  let preview = null; // stands in for the selection while a mention is pointed at
  let selection = null; // { arm, start, stop, name }: tokens [start, stop) of an arm
  let pictures = [];
  const slots = {};
  const guide = options.guide ? makeGuide(root) : null;
  const announcer = h("p", { class: "mp-hidden", role: "status" }); // says to screen readers what the eye sees
  const player = makePlayer(root, view, slots);
  const { play, seek } = player;
  const clipSeconds = () => view.doc.clip.seconds;

  function drawPictures() {
    const { doc, settings } = view;
    view.dark = isDark(root);
    pictures = doc.arms.map((arm) => (view.running ? null : reduceAttention(arm, settings)));
    const maximum = sharedMaximum(pictures);
    view.topShare = Math.max(1e-9, ...pictures.flatMap((picture) => (picture ? picture.rows.map((row) => row.share) : [])));
    const longest = Math.max(1, ...pictures.map((picture) => (picture ? picture.tokens : 0)));
    const top = Math.max(1e-9, ...doc.arms.flatMap((arm, i) => (pictures[i] ? smooth(courseOf(arm, pictures[i], settings), 2) : [])));
    doc.arms.forEach((arm, index) => {
      const slot = slots.arms[index];
      view.plotWidth = Math.max(200, slot.picture.clientWidth - 130);
      const { figure, heatPlot, below } = pictureBlock(arm, index, pictures[index], maximum, view);
      slot.picture.replaceChildren(...[decayBlock(arm, pictures[index], settings, longest, top), figure, ...below].filter(Boolean));
      slot.figure = figure;
      if (heatPlot) watchHeat(heatPlot, arm, index);
    });
    if (slots.scaleTop) slots.scaleTop.textContent = settings.corrected ? times(maximum) : percent(maximum, 2);
    markSelection();
    player.setPlayhead();
  }

  function watchHeat(plot, arm, index) {
    const hover = plot.querySelector(".mp-hover");
    const at = (event) => {
      const box = plot.getBoundingClientRect();
      const picture = pictures[index];
      const row = clamp(Math.floor(((event.clientY - box.top) / box.height) * picture.rows.length), 0, picture.rows.length - 1);
      const time = clamp((event.clientX - box.left) / box.width, 0, 0.9999) * clipSeconds();
      return { row: picture.rows[row], time, column: clamp(Math.floor(time / picture.column_s), 0, picture.columns - 1) };
    };
    plot.addEventListener("mousemove", (event) => {
      const { row, time, column } = at(event);
      const value = row.values[column];
      hover.textContent = `${shorten(rowText(arm, row).trim() || "token", 24)} · ${time.toFixed(2)} s · ${view.settings.corrected ? times(value) : percent(value, 2)}`;
      hover.classList.add("mp-shown");
    });
    plot.addEventListener("mouseleave", () => hover.classList.remove("mp-shown"));
    plot.addEventListener("click", (event) => {
      const { row, time } = at(event);
      select(row.unit ? { arm: index, start: row.start, stop: row.stop, name: row.unit.name } : tokenChoice(index, row.start), false);
      play(time, time + 1.2);
    });
  }

  // ---- choosing -----------------------------------------------------------------------------------------------------
  function selectedProfile() {
    const shown = preview || selection;
    if (!shown || !pictures[shown.arm]) return null;
    const picture = pictures[shown.arm];
    const { start, name } = shown;
    const stop = Math.min(shown.stop, picture.tokens);
    if (stop <= start || !picture.columns) return null;
    const known = picture.rows.find((row) => row.start === start && row.stop === stop);
    const values = known ? known.values : new Float32Array(picture.columns);
    if (!known) for (let t = start; t < stop; t += 1) for (let j = 0; j < picture.columns; j += 1) values[j] += picture.perToken[t][j] / (stop - start);
    return { picture, values, start, stop, name };
  }
  const tokenChoice = (arm, token) => ({ arm, start: token, stop: token + 1, name: `“${rowText(view.doc.arms[arm], { start: token }).trim() || "blank"}”` });

  function select(next, move) {
    selection = next;
    markSelection();
    const profile = selectedProfile();
    const first = profile && peaks(profile.values, profile.picture.column_s, clipSeconds())[0];
    if (move !== false && first) seek(first.start);
  }

  function markSelection() {
    view.doc.arms.forEach((arm, index) => {
      const slot = slots.arms[index];
      const shown = preview || selection;
      const mine = shown && shown.arm === index ? selectedProfile() : null;
      const picture = pictures[index];
      root.querySelectorAll(`.mp-arm[data-arm="${index}"] button[data-from]`).forEach((button) => {
        const on = Boolean(mine && Number(button.dataset.from) === shown.start && Number(button.dataset.to) === shown.stop);
        button.setAttribute("aria-pressed", String(on));
      });
      slot.trace.querySelectorAll(".mp-picked, .mp-within").forEach((token) => token.classList.remove("mp-picked", "mp-within"));
      if (mine) {
        slot.trace.querySelectorAll("[data-token]").forEach((token) => {
          const t = Number(token.dataset.token);
          if (t >= mine.start && t < mine.stop) token.classList.add(mine.stop - mine.start === 1 ? "mp-picked" : "mp-within");
        });
      }
      const cursor = slot.figure && slot.figure.querySelector(".mp-cursor-row");
      if (cursor && picture) {
        const rows = picture.rows.map((row, i) => ({ row, i })).filter(({ row }) => mine && row.start < mine.stop && row.stop > mine.start);
        cursor.style.display = rows.length ? "block" : "none";
        if (rows.length) {
          cursor.style.top = `${(100 * rows[0].i) / picture.rows.length}%`;
          cursor.style.height = `${(100 * (rows[rows.length - 1].i - rows[0].i + 1)) / picture.rows.length}%`;
        }
      }
      const values = mine ? mine.values : picture && picture.rows.length ? meanRow(picture) : null;
      const buttons = slot.figure ? Array.from(slot.figure.querySelectorAll(".mp-strip-button")) : [];
      const shares = buttons.map((button) => (values ? shareWithin(values, picture.column_s, Number(button.dataset.start), Number(button.dataset.stop)) : 0));
      const most = Math.max(...shares, 1e-9);
      buttons.forEach((button, i) => {
        button.style.setProperty("--mp-level", String(shares[i] / most));
        const what = values ? `; ${percent(shares[i], 0)} of the audio attention of ${mine ? mine.name : "the whole trace"}` : "";
        const label = `Play from ${Number(button.dataset.start).toFixed(1)} s${what}`;
        button.setAttribute("aria-label", label);
        button.title = label;
      });
      if (!picture || !picture.rows.length) { slot.selection.replaceChildren(); return; }
      if (!mine) {
        slot.selection.replaceChildren(h("span", { class: "mp-hint" }, "Choose a part's label or a word of the trace."));
        return;
      }
      const runs = peaks(mine.values, picture.column_s, clipSeconds());
      slot.selection.replaceChildren(h("span", {}, h("b", { dir: "auto" }, shorten(mine.name, 40)), runs.length ? " listened at" : " gave the audio next to nothing"),
        ...runs.map((run) => h("button", { type: "button", class: "mp-hear", "data-hear": `${run.start},${run.stop}` }, `▶ ${interval(run.start, run.stop)}`, h("small", {}, percent(run.share, 0)))),
        h("button", { type: "button", class: "mp-clear", "data-do": "clear", "aria-label": "Choose nothing" }, "×"));
    });
  }

  function highlightEvents(indices) {
    const { doc } = view;
    root.querySelectorAll(".mp-event, .mp-missed").forEach((item) => item.classList.toggle("mp-lit", indices.includes(Number(item.dataset.event))));
    const events = indices.map((i) => (doc.truth && doc.truth.events ? doc.truth.events[i] : null)).filter((event) => event && Number.isFinite(event.onset_s) && Number.isFinite(event.offset_s));
    root.classList.toggle("mp-banded", events.length > 0);
    if (!events.length) return;
    const start = Math.min(...events.map((event) => event.onset_s)) / clipSeconds();
    const stop = Math.max(...events.map((event) => event.offset_s)) / clipSeconds();
    root.style.setProperty("--mp-band-from", String(clamp(start, 0, 1)));
    root.style.setProperty("--mp-band-to", String(clamp(stop, 0, 1)));
  }

  // ---- downloads ----------------------------------------------------------------------------------------------------
  function save(name, type, text) {
    const link = h("a", { download: name });
    link.href = URL.createObjectURL(new Blob([text], { type }));
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 5000);
  }
  const fileName = (ending) => `mpar2-comparison-${String(view.doc.id).replace(/[^a-z0-9-]/gi, "")}.${ending}`;
  async function act(name, button) {
    if (name === "clear") select(null, false);
    if (name === "guide") guide.open();
    if (name === "json") save(fileName("json"), "application/json", JSON.stringify(view.doc, null, 1));
    if (name === "html") {
      const shell = await options.shell();
      const text = JSON.stringify(view.doc).replace(/[<>&\u2028\u2029]/g, (ch) => `\\u${ch.charCodeAt(0).toString(16).padStart(4, "0")}`);
      save(fileName("html"), "text/html", shell.split(SLOT).join(text));
    }
    if (name === "link") {
      const url = `${location.origin}${location.pathname}?${view.doc.link}`;
      try { await navigator.clipboard.writeText(url); button.textContent = "Link copied"; } catch { window.prompt("Copy this link", url); }
      setTimeout(() => { button.textContent = "Copy link"; }, 2500);
    }
  }

  // ---- events -------------------------------------------------------------------------------------------------------
  root.addEventListener("click", (event) => {
    if (!view.doc) return;
    const target = event.target.closest("[data-do],[data-hear],[data-seek],[data-preset],[data-play],button[data-from],[data-token]");
    if (!target || !root.contains(target)) return;
    const armNode = target.closest("[data-arm]");
    const arm = armNode ? Number(armNode.dataset.arm) : 0;
    if (target.dataset.do) act(target.dataset.do, target);
    else if (target.dataset.hear) { const [start, stop] = target.dataset.hear.split(",").map(Number); play(start, stop); }
    else if (target.dataset.seek !== undefined) play(Number(target.dataset.seek), target.dataset.stop ? Number(target.dataset.stop) : stopOfEvent(target));
    else if (target.dataset.preset) setPreset(target.dataset.preset, Number(target.dataset.from), Number(target.dataset.to));
    else if (target.dataset.play !== undefined) player.toggle();
    else if (view.running || !pictures[arm]) return;
    else if (target.dataset.from !== undefined) select({ arm, start: Number(target.dataset.from), stop: Number(target.dataset.to), name: target.dataset.name });
    else if (target.dataset.token !== undefined && Number(target.dataset.token) < pictures[arm].tokens) select(tokenChoice(arm, Number(target.dataset.token)));
  });
  function stopOfEvent(target) {
    const event = view.doc.truth && view.doc.truth.events ? view.doc.truth.events[Number(target.dataset.event)] : null;
    return event && Number.isFinite(event.offset_s) ? event.offset_s : undefined;
  }
  root.addEventListener("change", (event) => {
    const { set, pick } = event.target.dataset || {};
    if (set === "rows") view.settings.rows = event.target.value;
    else if (set === "corrected") view.settings.corrected = event.target.value === "corrected";
    else if (set === "removeSinks") view.settings.removeSinks = event.target.checked;
    else if (pick) view.settings[pick] = Array.from(root.querySelectorAll(`[data-pick="${pick}"]:checked`), (box) => Number(box.value));
    else return;
    if (set === "rows") redrawControls();
    else if (pick) nameOfPicker(pick);
    drawPictures();
  });
  function nameOfPicker(name) {
    const details = root.querySelector(`[data-picker="${name}"]`);
    const count = details.querySelectorAll("[data-pick]").length;
    const picked = view.settings[name].length;
    details.querySelector("summary").textContent = `${name === "layers" ? "Layers" : "Heads"}: ${!picked || picked === count ? `all ${count}` : picked === 1 ? view.settings[name][0] + 1 : `${picked} of ${count}`}`;
  }
  function setPreset(name, from, to) {
    const boxes = Array.from(root.querySelectorAll(`[data-pick="${name}"]`));
    boxes.forEach((box, i) => { box.checked = i >= from && i < to; });
    view.settings[name] = boxes.filter((box) => box.checked).map((box) => Number(box.value));
    nameOfPicker(name);
    drawPictures();
  }
  function redrawControls() {
    const focused = document.activeElement && root.contains(document.activeElement) ? document.activeElement.dataset : {};
    slots.controls.replaceChildren(...[controlsBlock(view, slots)].filter(Boolean));
    if (focused.set) { const again = slots.controls.querySelector(`[data-set="${focused.set}"]:checked`); if (again) again.focus(); }
  }
  root.addEventListener("keydown", (event) => {
    if (!view.doc) return;
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (event.target.classList.contains("mp-strip-button") && step) {
      const buttons = Array.from(event.target.parentElement.children);
      const next = buttons[clamp(buttons.indexOf(event.target) + step, 0, buttons.length - 1)];
      buttons.forEach((button) => { button.tabIndex = button === next ? 0 : -1; });
      next.focus();
      event.preventDefault();
    } else if (event.target.classList.contains("mp-trace") && (event.key === "ArrowRight" || event.key === "ArrowLeft") && !view.running) {
      const arm = Number(event.target.closest("[data-arm]").dataset.arm);
      const shown = Array.from(event.target.querySelectorAll("[data-token]"), (node) => Number(node.dataset.token));
      if (!shown.length || !pictures[arm]) return;
      const here = selection && selection.arm === arm ? shown.indexOf(step > 0 ? selection.stop - 1 : selection.start) : step > 0 ? -1 : shown.length;
      const token = shown[clamp(here + step, 0, shown.length - 1)];
      if (token < pictures[arm].tokens) select(tokenChoice(arm, token));
      const nodes = Array.from(event.target.querySelectorAll(".mp-picked"));
      const node = nodes[0];
      const mark = nodes.map((picked) => picked.closest("[data-mention]")).find(Boolean);
      highlightEvents(mark ? view.doc.arms[arm].cafe.mentions[Number(mark.dataset.mention)].events : []);
      if (node) node.scrollIntoView({ block: "nearest" });
      event.preventDefault();
    } else if (event.key === "Escape" && selection) { select(null, false); highlightEvents([]); }
  });
  for (const kind of ["mouseover", "focusin"]) {
    root.addEventListener(kind, (event) => {
      if (!view.doc) return;
      const item = event.target.closest && event.target.closest("[data-mention],[data-event]");
      if (!item || item.dataset.event !== undefined) {
        highlightEvents(item ? [Number(item.dataset.event)] : []);
        point(null);
        return;
      }
      const arm = Number(item.closest("[data-arm]").dataset.arm);
      const mention = view.doc.arms[arm].cafe.mentions[Number(item.dataset.mention)];
      const tokens = Array.from(item.querySelectorAll("[data-token]"), (node) => Number(node.dataset.token));
      highlightEvents(mention ? mention.events : []);
      point(tokens.length && !view.running ? { arm, start: Math.min(...tokens), stop: Math.max(...tokens) + 1, name: `“${mention.quote}”` } : null);
    });
  }
  root.addEventListener("mouseleave", () => { if (view.doc) { highlightEvents([]); point(null); } });
  function point(next) { // show where a mention listened, for as long as it is pointed at
    if (preview === next || (preview && next && preview.arm === next.arm && preview.start === next.start && preview.stop === next.stop)) return;
    preview = next;
    markSelection();
  }

  // ---- showing ------------------------------------------------------------------------------------------------------
  function full() {
    const { doc } = view;
    selection = preview = null;
    slots.arms = [];
    const source = typeof doc.clip.audio === "string" && doc.clip.audio.startsWith("data:audio/") ? doc.clip.audio : "";
    player.load(source);
    slots.play = h("button", { type: "button", class: "mp-play", "data-play": "" }, "▶ Play");
    slots.clock = h("span", { class: "mp-clock" }, "");
    slots.scrub = h("input", { type: "range", min: 0, max: doc.clip.seconds, step: 0.01, value: 0, "aria-label": "Position in the clip" });
    slots.scrub.addEventListener("input", () => seek(Number(slots.scrub.value)));
    slots.controls = h("div", { class: "mp-controls-slot" });
    slots.head = h("div", { class: "mp-head" }, headBlock(view, options));
    const arms = h("div", { class: "mp-arms" }, doc.arms.map((arm, index) => armBlock(arm, index, view, slots)));
    const transport = h("div", { class: "mp-bar-top" }, source ? h("div", { class: "mp-transport" }, slots.play, slots.scrub, slots.clock) : null, slots.controls);
    root.replaceChildren(...[announcer, guide && guide.node, slots.head, transport, legend(doc), arms,
      h("p", { class: "mp-origin" }, originText(doc))].filter(Boolean));
    if (!view.running) slots.controls.replaceChildren(...[controlsBlock(view, slots)].filter(Boolean));
    drawPictures();
  }
  function originText(doc) {
    const d = doc.decoding || {};
    const how = d.temperature > 0 ? `sampled at temperature ${d.temperature}, seed ${d.seed}` : "greedy";
    const prompts = Object.entries(doc.prompts || {}).map(([mode, hash]) => `${mode} ${String(hash).slice(0, 8)}`).join(", ");
    return `Decoding ${how}, at most ${d.max_new_tokens} tokens. Prompts: ${prompts}. mpar2 ${doc.package}, ${doc.created}. Clip ${String(doc.clip.digest).slice(0, 12)}.`;
  }
  function stream() {
    slots.head.replaceChildren(...headBlock(view, options).flat(3).filter(Boolean));
    view.doc.arms.forEach((arm, index) => {
      const slot = slots.arms[index];
      const old = slot.trace.querySelector(".mp-trace");
      const follow = old ? old.scrollHeight - old.scrollTop - old.clientHeight < 40 : true;
      const top = old ? old.scrollTop : 0;
      slot.trace.replaceChildren(...traceBlock(arm, view).flat(3).filter(Boolean));
      slot.result.replaceChildren(resultBlock(arm, view));
      const box = slot.trace.querySelector(".mp-trace");
      box.scrollTop = follow ? box.scrollHeight : top;
    });
  }
  function show(doc) {
    if (!doc || !Array.isArray(doc.arms)) {
      player.pause();
      root.replaceChildren(h("p", { class: "mp-start" }, "Choose an example, or bring a sound and a question. Both models will reason here, side by side, with a picture of where each one listened."));
      view.doc = null;
      return;
    }
    const same = view.doc && view.doc.id === doc.id && view.running && doc.status === "running" && slots.arms.length === doc.arms.length;
    const another = view.doc && view.doc.id !== doc.id;
    view.doc = doc;
    view.running = doc.status === "running";
    view.dark = isDark(root);
    root.setAttribute("aria-busy", String(view.running));
    if (same) stream(); else full();
    if (guide) guide.show(doc, pictures, view.running);
    announce(doc);
    if (another && root.getBoundingClientRect().top > 0.8 * window.innerHeight) root.scrollIntoView({ block: "start" }); // stacked layouts
  }

  function announce(doc) {
    const answers = doc.arms.map((arm) => `${arm.name} answers ${arm.answer ? shorten(arm.answer, 80) : "nothing"}`);
    const text = view.running ? "The models are at work." : doc.stored ? "" : `The comparison has ended. ${answers.join("; ")}.`;
    if (announcer.textContent !== text) announcer.textContent = text;
  }

  let width = 0;
  new ResizeObserver(() => {
    if (Math.abs(root.clientWidth - width) > 24) { width = root.clientWidth; if (view.doc && !view.running) drawPictures(); }
  }).observe(root);
  new MutationObserver(() => { if (view.doc && isDark(root) !== view.dark) { view.dark = isDark(root); redrawControls(); drawPictures(); } })
    .observe(document.body, { attributes: true, attributeFilter: ["class"] });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { if (view.doc) { view.dark = isDark(root); redrawControls(); drawPictures(); } });
  return { show };
}
