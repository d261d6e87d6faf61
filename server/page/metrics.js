/* metrics: /metrics as numbers, once a second while the page is seen, and what may be said of the last minutes. */
const SAMPLES_MOST = 200, LOOK_MS = 1000, RATE_S = 5, QUANTILE_S = 15;
const samples = [];

/* Prometheus text: Map of name -> [{ labels, value }]. */
function parseMetrics(text) {
  const out = new Map();
  for (const line of text.split("\n")) {
    const m = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/.exec(line);
    if (!m) continue;
    const labels = {};
    if (m[2]) for (const l of m[2].matchAll(/(\w+)="((?:\\.|[^"\\])*)"/g)) labels[l[1]] = l[2].replace(/\\(.)/g, (_, c) => c === "n" ? "\n" : c);
    if (!out.has(m[1])) out.set(m[1], []);
    out.get(m[1]).push({ labels, value: m[3] === "+Inf" ? Infinity : Number(m[3]) });
  }
  return out;
}

/* One look: every number that the page shows. Without a loaded model only the state is there. */
function sampleOf(m, t) {
  const rows = name => m.get("fluxd_" + name) || [];
  const one = name => rows(name).length ? rows(name)[0].value : 0;
  const by = (name, label, key) => (rows(name).find(r => r.labels[label] === key) || { value: 0 }).value;
  const buckets = name => rows(name + "_bucket").map(r => [r.labels.le === "+Inf" ? Infinity : Number(r.labels.le), r.value]);
  return {
    t, ready: one("ready"), draining: one("draining"), loaded: m.has("fluxd_requests_running"),
    running: one("requests_running"), waiting: one("requests_waiting"),
    full: by("kv_pages_used", "kind", "full"), sparse: by("kv_pages_used", "kind", "sparse"), pool: one("kv_pages"), pageBytes: one("kv_page_bytes"),
    idle: one("prefix_idle_bytes"), usage: one("kv_usage_ratio"), freed: one("kv_pages_given_back_total"),
    generated: one("generation_tokens_total"), prompt: one("prompt_tokens_total"), cached: one("cached_tokens_total"),
    finished: rows("requests_finished_total").reduce((n, r) => n + r.value, 0), preempted: one("preemptions_total"),
    routed: one("requests_routed_total"), fullLayers: one("route_full_layers_sum"), layers: rows("route_layer_full_total").map(r => r.value),
    gaps: buckets("inter_token_latency_seconds"), first: buckets("time_to_first_token_seconds"),
    info: rows("model_info").length ? rows("model_info")[0].labels : null, version: rows("build_info").length ? rows("build_info")[0].labels.version : "",
    maxTokens: one("model_max_tokens"), weights: one("model_weights_bytes"), started: (m.get("process_start_time_seconds") || [{ value: 0 }])[0].value,
  };
}

/* Counters that fell belong to another process: what was before is dropped. */
function addSample(s) {
  const last = samples[samples.length - 1];
  if (last && (s.generated < last.generated || s.routed < last.routed || s.started !== last.started)) samples.length = 0;
  samples.push(s);
  if (samples.length > SAMPLES_MOST) samples.shift();
}

/* The newest sample that is at least s seconds older than samples[i]; the oldest if none is. */
function before(i, s) {
  let j = i;
  while (j > 0 && samples[i].t - samples[j].t < s) j--;
  return samples[j];
}
/* A counter's growth per second up to samples[i]; null where nothing can be said. */
function rateAt(i, key) {
  const a = before(i, RATE_S), b = samples[i];
  return b.t > a.t ? (b[key] - a[key]) / (b.t - a.t) : null;
}
/* A quantile of what a histogram took in up to samples[i], by a straight line within its bucket; null if it took nothing. */
function quantileAt(i, key, q) {
  const a = before(i, QUANTILE_S)[key], b = samples[i][key];
  if (!b.length || a.length !== b.length) return null;
  const grown = b.map(([le, n], k) => [le, n - a[k][1]]), all = grown[grown.length - 1][1];
  if (all <= 0) return null;
  let low = 0, below = 0;
  for (const [le, n] of grown) {
    if (n >= q * all) return le === Infinity ? low : low + (le - low) * (n > below ? (q * all - below) / (n - below) : 1);
    low = le;
    below = n;
  }
  return low;
}

/* --- the look */
function tellState(word, text) {
  if ($("state").dataset.s === word && $("state").textContent === (text || word)) return;
  $("state").dataset.s = word;
  $("state").textContent = text || word;
}
let looking = false;
async function look() {
  if (document.hidden || looking || $("key-ask").open) return;
  looking = true;
  try {
    const s = sampleOf(parseMetrics(await (await ask("/metrics")).text()), performance.now() / 1000);
    tellState(s.draining ? "draining" : s.ready ? "ready" : "loading");
    if (s.loaded) {
      addSample(s);
      const rate = rateAt(samples.length - 1, "generated");
      $("pulse").textContent = s.running + s.waiting > 0
        ? `${s.running} running${s.waiting ? `, ${s.waiting} waiting` : ""}${rate ? ` · ${few(rate)} tok/s` : ""}` : "";
      drawEngine();
    }
    if (s.ready && !server.model) {
      await findModel();
      $("model").textContent = $("model").title = server.model;
      document.title = "fluxd · " + server.model;
      recount();
    }
  } catch (e) {
    if (e.status === 401) tellState("locked", "needs an API key");
    else tellState("away", e.status ? "status " + e.status : "no answer");
  }
  looking = false;
}
