/* settings: the drawer. Sampling holds for every conversation, the system prompt for the one it is written in (and the next new one). */
const ROUTES = ["", "auto", "full", "sparse"];
const SAMPLING = [
  { key: "temperature", label: "Temperature", min: 0, max: 2, step: 0.1 },
  { key: "top_p", label: "Top p", min: 0, max: 1, step: 0.05 },
  { key: "top_k", label: "Top k", min: -1, step: 1 },
  { key: "min_p", label: "Min p", min: 0, max: 1, step: 0.01 },
  { key: "repetition_penalty", label: "Repetition penalty", min: 0.1, max: 2, step: 0.05 },
  { key: "presence_penalty", label: "Presence penalty", min: -2, max: 2, step: 0.1 },
  { key: "max_tokens", label: "Longest answer, tokens", min: 1, step: 1 },
  { key: "seed", label: "Seed", step: 1 },
  { key: "stop", label: "Stop at", text: true },
  { key: "route", label: "Route", choices: ROUTES },
];
let sampling = setting("sampling") || { max_tokens: 1024 }; /* what is cut can go on */

for (const f of SAMPLING) {
  const input = f.choices ? el("select", null, ...f.choices.map(c => el("option", { value: c }, c || "server's")))
    : el("input", { type: f.text ? "text" : "number", min: f.min, max: f.max, step: f.step === undefined ? null : "any", inputmode: f.text ? null : "decimal" });
  if (sampling[f.key] !== undefined) input.value = sampling[f.key];
  input.addEventListener("input", () => {
    const value = f.text || f.choices ? input.value : input.valueAsNumber;
    if (value === "" || Number.isNaN(value)) delete sampling[f.key];
    else sampling[f.key] = value;
    setting("sampling", sampling);
    tellLeft();
  });
  $("sampling").append(el("label", null, f.label, input));
}

/* The fields of a request that the drawer sets. */
function samplingFields() {
  const out = { ...sampling };
  if (out.seed !== undefined) out.seed = Math.trunc(out.seed);
  return out;
}

function applyTheme(name) {
  if (name === "light" || name === "dark") document.documentElement.dataset.theme = name;
  else delete document.documentElement.dataset.theme;
}
const theme = setting("theme") || "system";
for (const name of ["system", "light", "dark"]) {
  const input = el("input", { type: "radio", name: "theme", value: name, checked: name === theme });
  input.addEventListener("change", () => applyTheme(setting("theme", name)));
  $("theme").append(el("label", null, input, name[0].toUpperCase() + name.slice(1)));
}
applyTheme(theme);

const KEYS = [["Enter", "send"], ["Shift+Enter", "new line"], ["Esc", "stop the answer"], ["↑", "edit the last message, in an empty box"], ["/", "to the message"],
  ["Alt+N", "new conversation"], ["Alt+1 Alt+2", "chat, engine"], ["Alt+,", "settings"]];
for (const [key, what] of KEYS) $("keys").append(el("dt", null, ...key.split(" ").map(k => el("kbd", null, k))), el("dd", null, what));

$("settings").addEventListener("submit", event => event.preventDefault());
$("tune").addEventListener("click", () => openDrawer());
$("drawer-close").addEventListener("click", () => $("drawer").close());
$("drawer").addEventListener("click", event => { if (event.target === $("drawer")) $("drawer").close(); }); /* beside it */
function openDrawer() {
  $("system").value = talk.system;
  $("drawer").showModal();
}
$("system").addEventListener("input", () => {
  talk.system = $("system").value;
  setting("system", talk.system);
  if (talk.turns.length) keep(talk);
  recount();
});
$("export").addEventListener("click", () => {
  const all = listTalks().map(t => exported(loadTalk(t.id)));
  if (!all.length) { toast("There is no conversation yet"); return; }
  saveFile("fluxd-conversations.json", "application/json", JSON.stringify(all, null, 1));
});
$("forget").addEventListener("click", () => {
  const all = listTalks().map(t => loadTalk(t.id));
  $("drawer").close();
  for (const t of all) removeTalk(t.id);
  toast(all.length === 1 ? "One conversation deleted" : count(all.length) + " conversations deleted", "Undo", () => { for (const t of all.reverse()) keep(t); listSide(); });
});
