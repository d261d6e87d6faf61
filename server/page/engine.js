/* engine: the second tab, from /metrics alone. */
const pages = key => i => samples[i][key] * samples[i].pageBytes;
const newest = () => samples[samples.length - 1];
const perSecond = n => few(n) + "/s";

const CHARTS = [
  { title: "Requests", format: count, series: [{ name: "running", at: i => samples[i].running }, { name: "waiting", at: i => samples[i].waiting }] },
  { title: "Generated tokens", format: perSecond, series: [{ name: "generated", at: i => rateAt(i, "generated") }] },
  { title: "Prompt tokens", format: perSecond, series: [{ name: "prompts", at: i => rateAt(i, "prompt") }, { name: "from the cache", at: i => rateAt(i, "cached") }] },
  { title: "KV memory", format: bytes, round: roundBytes, stack: true,
    series: [{ name: "full layers", at: pages("full") }, { name: "sparse layers", at: pages("sparse") }, { name: "cached, idle", at: i => samples[i].idle }],
    summary: i => `${bytes(pages("full")(i))} full · ${bytes(pages("sparse")(i))} sparse · ${bytes(samples[i].idle)} idle` },
  { title: "Gap between tokens", format: span, series: [{ name: "median", at: i => quantileAt(i, "gaps", 0.5) }, { name: "95%", at: i => quantileAt(i, "gaps", 0.95) }] },
  { title: "Time to first token", format: span, series: [{ name: "median", at: i => quantileAt(i, "first", 0.5) }, { name: "95%", at: i => quantileAt(i, "first", 0.95) }] },
].map(chart);

/* Each layer's share of routed requests that it attended to in full: since the start, and as a mark what is new in the samples held. */
const layerChart = (() => {
  const bars = el("div.layers", { role: "img" }), value = el("span.value"), ticks = el("div.ticks", { "aria-hidden": "true" });
  const figure = el("figure.chart.broad", null, el("figcaption", null, el("h3", null, "Full attention by layer"), value), bars, ticks,
    el("div.legend", { "aria-hidden": "true" }, el("span.c0", null, "share of requests since the start"), el("span.c1", null, "the last minutes, where they differ")));
  function draw() {
    const s = newest(), old = samples[0], fresh = s.routed - old.routed, n = s.layers.length;
    if (bars.childElementCount !== n) {
      bars.replaceChildren(...s.layers.map(() => el("div", null, el("i"), el("b", { hidden: true }))));
      ticks.replaceChildren(...[0, 0.25, 0.5, 0.75, 1].map(k => el("span", null, Math.round(k * (n - 1)))));
    }
    s.layers.forEach((full, l) => {
      const [bar, line] = bars.children[l].children, share = s.routed ? full / s.routed : 0;
      bar.style.height = 100 * share + "%";
      const recent = fresh ? (full - old.layers[l]) / fresh : share;
      line.hidden = Math.abs(recent - share) < 0.02;
      if (!line.hidden) line.style.bottom = `calc(${recent} * (100% - 2px))`;
      bars.children[l].title = `layer ${l}: full in ${Math.round(100 * share)}% of ${count(s.routed)} requests`;
    });
    const mean = s.routed ? `${few(s.fullLayers / s.routed)} of ${n} layers full on average` : "no request routed yet";
    value.textContent = mean;
    bars.setAttribute("aria-label", "Full attention by layer: " + mean);
  }
  return { figure, draw };
})();

const TILES = [
  ["Running", s => [s.running]], ["Waiting", s => [s.waiting]],
  ["Tokens per second", () => [few(rateAt(samples.length - 1, "generated") || 0)]],
  ["KV memory", s => [few(100 * s.usage) + "%", "of " + bytes(s.pool * s.pageBytes)]],
  ["Answers", s => [count(s.finished)]],
  ["Prompt from cache", s => [s.prompt ? Math.round(100 * s.cached / s.prompt) + "%" : "–", s.cached ? count(s.cached) : ""]],
  ["Freed early", s => [s.freed ? bytes(s.freed * s.pageBytes) : "0", s.freed ? count(s.freed) + " pages" : ""]], ["Preempted", s => [count(s.preempted)]],
].map(([name, value]) => {
  const number = el("span"), more = el("small");
  return { box: el("div", null, el("dt", null, name), el("dd", null, number, more)), draw: s => { [number.textContent, more.textContent = ""] = value(s); } };
});
$("tiles").append(...TILES.map(t => t.box));
$("charts").append(layerChart.figure, ...CHARTS.map(c => c.figure));

/* No drawing that nobody sees. */
function drawEngine() {
  if ($("engine").hidden || !samples.length) return;
  const s = newest();
  for (const t of TILES) t.draw(s);
  for (const c of [layerChart, ...CHARTS]) c.draw();
  if (s.info) $("about").textContent = `${s.info.name || s.info.model} · ${s.info.family}, ${s.info.layers} layers, ${bytes(s.weights)} of ${s.info.weights} weights · `
    + `context ${count(s.maxTokens)} tokens · ${s.info.device} · fluxd ${s.version}`;
}
