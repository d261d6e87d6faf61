/* charts: small pictures of the last minutes. x is time, so a pause of the page is a gap in the line. */
const SPAN_S = 180, GAP_S = 4, WIDE = 300, HIGH = 100;

/* A round number at or above n. */
function roundUp(n) {
  if (!(n > 0)) return 1;
  const unit = 10 ** Math.floor(Math.log10(n));
  return [1, 2, 2.5, 5, 10].map(k => k * unit).find(k => k >= n * 0.9999);
}

/* The same in units of 1024. */
function roundBytes(n) {
  const unit = 1024 ** Math.floor(Math.log2(Math.max(1, n)) / 10);
  return roundUp(n / unit) * unit;
}

/* spec: { title, series: [{ name, at(i) -> number or null }], format(n), round (the scale's end above a number), stack, summary(i) }.
 * Gives { figure, draw }. */
function chart(spec) {
  const paths = spec.series.map((_, k) => svg("path", { class: "c" + k })), areas = spec.series.map((_, k) => svg("path", { class: "area c" + k }));
  const cursor = svg("line", { class: "cursor", y1: 0, y2: HIGH, visibility: "hidden" });
  const picture = svg("svg", { viewBox: `0 0 ${WIDE} ${HIGH}`, preserveAspectRatio: "none", role: "img", "aria-label": spec.title },
    svg("line", { x1: 0, x2: WIDE, y1: HIGH, y2: HIGH }), svg("line", { x1: 0, x2: WIDE, y1: 0, y2: 0 }), ...areas, ...paths, cursor);
  const value = el("span.value"), mark = el("span.top-mark", { "aria-hidden": "true" });
  const figure = el("figure.chart", null, el("figcaption", null, el("h3", null, spec.title), value), el("div.plot", null, picture, mark));
  if (spec.series.length > 1) figure.append(el("div.legend", { "aria-hidden": "true" }, ...spec.series.map((s, k) => el("span.c" + k, null, s.name))));
  let pointed = -1;
  const words = i => spec.summary ? spec.summary(i) : spec.series.map(s => [s.name, s.at(i)])
    .map(([name, v]) => (spec.series.length > 1 ? name + " " : "") + (v === null ? "–" : spec.format(v))).join(" · ");

  function draw() {
    const last = samples.length - 1, now = samples[last].t, rows = spec.series.map(s => samples.map((_, i) => s.at(i)));
    if (spec.stack) for (let k = 1; k < rows.length; k++) rows[k] = rows[k].map((v, i) => v + rows[k - 1][i]);
    const top = (spec.round || roundUp)(Math.max(0, ...rows.flat().filter(v => v !== null)));
    const x = i => WIDE * (1 - (now - samples[i].t) / SPAN_S), y = v => HIGH * (1 - Math.min(v, top) / top);
    rows.forEach((row, k) => {
      let line = "", area = "", from = -1;
      const close = to => { if (from >= 0) area += `L${x(to).toFixed(1)} ${HIGH}L${x(from).toFixed(1)} ${HIGH}Z`; from = -1; };
      row.forEach((v, i) => {
        if (v === null || now - samples[i].t > SPAN_S) { close(i - 1); return; }
        if (from >= 0 && samples[i].t - samples[i - 1].t > GAP_S) close(i - 1);
        const step = (from < 0 ? "M" : "L") + x(i).toFixed(1) + " " + y(v).toFixed(1);
        if (from < 0) from = i;
        line += step;
        area += step;
      });
      close(last);
      paths[k].setAttribute("d", line);
      areas[k].setAttribute("d", area);
    });
    const i = pointed < 0 ? last : Math.min(pointed, last);
    value.textContent = words(i) + (pointed < 0 ? "" : ` · ${Math.round(now - samples[i].t)} s ago`);
    mark.textContent = spec.format(top);
    picture.setAttribute("aria-label", `${spec.title}, the last ${SPAN_S / 60} minutes; now ${words(last)}`);
  }
  picture.addEventListener("pointermove", event => {
    if (!samples.length) return;
    const box = picture.getBoundingClientRect(), t = samples[samples.length - 1].t - SPAN_S * (1 - (event.clientX - box.left) / box.width);
    pointed = samples.reduce((best, s, i) => Math.abs(s.t - t) < Math.abs(samples[best].t - t) ? i : best, 0);
    const at = WIDE * (1 - (samples[samples.length - 1].t - samples[pointed].t) / SPAN_S);
    cursor.setAttribute("x1", at);
    cursor.setAttribute("x2", at);
    cursor.setAttribute("visibility", "visible");
    draw();
  });
  picture.addEventListener("pointerleave", () => { pointed = -1; cursor.setAttribute("visibility", "hidden"); draw(); });
  return { figure, draw };
}
