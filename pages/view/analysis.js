// The traces behind a point of a figure: a list of items, and a choice of the arm to stand beside. The item that is
// chosen is shown below by the Compare view. Needs el() of analysis/view/exhibits.js. All of it is untrusted text and
// enters the page as text nodes.
//
// `value`: { title, total, items: [{ row, id, question, right, tokens, kept, beside: [{ row, arm }] }] } or null.
// `choose(row, beside)`: asks for the comparison of two rows (beside may be null); `close()`: puts all away.

function showTraces(root, value, choose, close) {
  root.replaceChildren();
  if (!value) return;
  let shown = 0;
  let wanted = null; // the arm that was chosen to stand beside: kept when another item is chosen
  const others = el("div", { class: "an-actions", role: "group", "aria-label": "Beside it" });
  const buttons = value.items.map((item, index) => el("button", { type: "button", "aria-pressed": "false", onclick: () => show(index, true) },
    el("span", { dir: "auto" }, item.question || item.id), el("small", { dir: "auto" }, [verdict(item), item.kept ? "with its sound" : null, item.id].filter(Boolean).join(" · "))));
  function show(index, ask) {
    shown = index;
    const item = value.items[index];
    const beside = item.beside.find(({ arm }) => arm === wanted) || item.beside[0] || null;
    buttons.forEach((button, i) => button.setAttribute("aria-pressed", String(i === index)));
    others.replaceChildren(...(item.beside.length > 1 ? [el("span", { class: "an-note" }, "Beside it: "), ...item.beside.map((other) =>
      el("button", { type: "button", dir: "auto", "aria-pressed": String(other === beside), onclick: () => { wanted = other.arm; show(shown, true); } }, other.arm))] : []));
    if (ask) choose(item.row, beside ? beside.row : null);
  }
  root.append(el("section", { class: "an-card", "aria-label": "Traces behind the point", tabindex: "-1" },
    el("header", { class: "an-traces-head" }, el("h3", { dir: "auto" }, value.title), el("button", { type: "button", onclick: close }, "Close")),
    el("p", { class: "an-note" }, value.total > value.items.length ? `${value.items.length} of ${value.total} traces, right and wrong ones in turn.` : `${value.total} ${value.total === 1 ? "trace" : "traces"}.`),
    value.items.length ? [el("div", { class: "an-list", role: "group", "aria-label": "Items" }, buttons), others] : null));
  if (value.items.length) show(0, false); // the first one comes with the list
  root.firstElementChild.scrollIntoView({ block: "start" });
  root.firstElementChild.focus({ preventScroll: true });
}

function verdict(item) {
  const said = item.right === null ? "not scored" : item.right ? "✓ right" : "✗ wrong";
  return [said, item.tokens === null ? null : `${item.tokens} tokens`].filter(Boolean).join(" · ");
}
