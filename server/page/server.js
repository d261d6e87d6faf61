/* server: the only file that fetches. The key stays in this tab (sessionStorage). */
const server = { model: "", maxLen: 0, key: "" };
try { server.key = sessionStorage.getItem("key") || ""; } catch { /* storage is off: the key lives as long as the page */ }

/* What the server answered instead: status, code and message of its error object. */
class Refused extends Error {
  constructor(status, error) {
    super(error.message || "status " + status);
    this.status = status;
    this.code = error.code || "";
  }
}

async function ask(path, body, signal) {
  const headers = {};
  if (server.key) headers.Authorization = "Bearer " + server.key;
  if (body) headers["Content-Type"] = "application/json";
  const r = await fetch(path, { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body), signal });
  if (r.ok) return r;
  let error = {};
  try { error = (await r.json()).error || {}; } catch { /* not ours: the status says enough */ }
  if (r.status === 401) askKey(server.key ? "The key was not accepted." : "");
  throw new Refused(r.status, error);
}

async function findModel() {
  const first = (await (await ask("/v1/models")).json()).data[0];
  server.model = first.id;
  server.maxLen = first.max_model_len;
}

/* Tokens of a text, or of messages with all that the chat template puts around them. */
async function countTokens(what) {
  const body = typeof what === "string" ? { prompt: what, add_special_tokens: false } : { messages: what };
  return (await (await ask("/tokenize", body)).json()).count;
}

/* The data of server-sent events. */
async function* frames(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) if (part.startsWith("data: ")) yield part.slice(6);
  }
}

/* --- the key */
function askKey(why) {
  if ($("key-ask").open) return;
  $("key-why").textContent = why;
  $("key").value = "";
  $("key-ask").showModal();
}
function setKey(key) {
  server.key = key;
  try { sessionStorage.setItem("key", key); } catch { /* as above */ }
  tellKey();
}
function tellKey() { $("key-state").textContent = server.key ? "in use in this tab" : "none"; }
$("key-form").addEventListener("submit", event => {
  event.preventDefault();
  const key = $("key").value.trim();
  if (!key) return;
  setKey(key);
  $("key-ask").close();
  look();
});
$("key-change").addEventListener("click", () => askKey(""));
tellKey();
