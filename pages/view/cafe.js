// CAFE beside a trace: which mentioned events are in the clip. Says who judged, against what truth, with counts.

function ratio(value, counted, of) {
  return h("span", {}, h("strong", {}, value === null || value === undefined ? "–" : percent(value, 0)),
    h("span", { class: "mp-of" }, of ? ` ${counted} of ${of}` : " nothing to count"));
}

function cafeBlock(arm, doc) {
  const cafe = arm.cafe;
  if (!cafe) {
    return doc.status === "running" ? null : h("div", { class: "mp-cafe" }, h("h4", {}, "Heard or made up?"),
      h("p", { class: "mp-note" }, doc.truth ? "This trace was not checked." : "Nobody has said what is audible in this clip, so mentions are not checked. List its events, or bring a judge, under “Truth and judge”."));
  }
  if (cafe.unscored) {
    return h("div", { class: "mp-cafe" }, h("h4", {}, "Heard or made up?"),
      h("p", { class: "mp-note" }, `Not scored: ${cafe.unscored}`));
  }
  const c = cafe.counts;
  const rows = [
    ["Acc_per", "asserted events that are in the clip", ratio(cafe.metrics.acc_per, c.matched, c.predicted)],
    ["Err_per", "asserted events that are not in the clip", ratio(cafe.metrics.err_per, c.hallucinated, c.predicted)],
    ["Err_use", "real events used wrongly", ratio(cafe.metrics.err_use, c.misused, c.predicted)],
    ["Err_omit", "events of the clip that it never asserts", ratio(cafe.metrics.err_omit, c.missed, c.targets)],
  ];
  const missed = cafe.missed.map((index) => {
    const event = doc.truth && doc.truth.events ? doc.truth.events[index] : null;
    const label = cafe.targets[index] || (event ? event.label : `event ${index + 1}`);
    const timed = event && Number.isFinite(event.onset_s) && Number.isFinite(event.offset_s);
    return timed
      ? h("button", { type: "button", class: "mp-missed", "data-event": index, "data-seek": event.onset_s,
          title: `Hear it: ${interval(event.onset_s, event.offset_s)}` }, label, h("small", {}, ` ${interval(event.onset_s, event.offset_s)}`))
      : h("span", { class: "mp-missed", "data-event": index }, label);
  });
  return h("div", { class: "mp-cafe" },
    h("h4", {}, "Heard or made up?"),
    h("table", {}, h("caption", { class: "mp-hidden" }, `CAFE metrics of ${arm.name}`),
      h("tbody", {}, rows.map(([name, meaning, value]) => h("tr", {}, h("th", { scope: "row" }, name, h("small", {}, meaning)), h("td", {}, value))))),
    h("p", { class: "mp-missed-line" }, missed.length ? "Missed: " : "Missed: none.", missed),
    h("p", { class: "mp-note" }, cafe.source));
}

function legend(doc) {
  if (!doc.arms.some((arm) => arm.cafe && arm.cafe.mentions)) return null;
  return h("div", { class: "mp-legend" }, h("span", { class: "mp-legend-title" }, "Events mentioned in a trace:"),
    Object.values(MENTION_KINDS).map((kind) => h("span", { class: "mp-legend-item" },
      h("mark", { class: `mp-mention mp-${kind.name.toLowerCase()}` }, kind.name, h("sup", {}, kind.letter)), h("small", {}, kind.meaning))));
}
