/* draft: the box to write in: its files, and what is left of the context before anything is sent. */
const FILE_BYTES = 16 << 20, FULL_TOK = 16, LOW_TOK = 256, COUNT_MS = 250;
const draft = { files: [], textTokens: 0 };
let usedTokens = 0; /* what the conversation takes without the draft */

const draftTokens = () => draft.files.reduce((n, f) => n + f.tokens, draft.textTokens);
const tokensLeft = () => server.maxLen - usedTokens - draftTokens();

function growBox() {
  $("text").style.height = "";
  $("text").style.height = $("text").scrollHeight + "px";
}
function setDraft(text) {
  $("text").value = text;
  growBox();
  countDraft();
}
function clearDraft() {
  draft.files = [];
  draft.textTokens = 0;
  $("text").value = "";
  growBox();
  drawFiles();
}

/* What is typed is counted when the typing pauses; an answer that comes late for another text is dropped. */
const countDraft = later(COUNT_MS, async () => {
  const text = $("text").value;
  let n = 0;
  if (text && server.model) try { n = await countTokens(text); } catch { return; /* the send will say why */ }
  if ($("text").value !== text) return;
  draft.textTokens = n;
  tellLeft();
});
/* The conversation, as the model gets it: on opening, and when what is sent of it has changed. */
async function recount() {
  const here = talk, messages = messagesOf(talk);
  let n = 0;
  if (server.model && messages.length) try { n = await countTokens(messages); } catch { return; }
  if (talk !== here) return;
  usedTokens = n;
  tellLeft();
}

function tellLeft() {
  if (!server.maxLen) return;
  const left = tokensLeft(), more = draftTokens(), wanted = sampling.max_tokens || LOW_TOK, full = left < FULL_TOK;
  $("meter").dataset.s = full ? "full" : left < wanted ? "low" : "";
  const [past, own] = $("meter").firstElementChild.children;
  past.style.width = 100 * Math.min(1, usedTokens / server.maxLen) + "%";
  own.style.width = 100 * Math.min(1, more / server.maxLen) + "%";
  $("left").textContent = full ? (left < 0 ? `${count(-left)} tokens too many` : "no room for an answer")
    : `${count(left)} of ${count(server.maxLen)} tokens left` + (more ? ` after these ${count(more)}` : "");
  $("left").title = `${tokens(usedTokens)} in the conversation, ${count(more)} in this message, ${count(server.maxLen)} in all`;
  drawBar(full);
}
/* What can be done about a full context is said where the next message is written. */
function drawBar(full) {
  const exchanges = talk.turns.slice(talk.from).filter(t => t.role === "user").length;
  $("bar").hidden = !full;
  if (!full) return;
  $("bar").replaceChildren(
    el("p", null, usedTokens > 0 ? `The context of ${tokens(server.maxLen)} is full.` : `This message is longer than the context of ${tokens(server.maxLen)}.`),
    el("div.buttons", null,
      exchanges > (draftTokens() ? 0 : 1) ? el("button.plain", { type: "button", onclick: leaveOut }, "Leave out the oldest turns") : null,
      usedTokens > 0 ? el("button.plain", { type: "button", onclick: () => startTalk() }, "New conversation") : null));
}
/* The older half of what is sent is no longer sent; it stays to be read. */
function leaveOut() {
  const starts = talk.turns.map((t, i) => i).filter(i => i >= talk.from && talk.turns[i].role === "user");
  starts.push(talk.turns.length);
  talk.from = starts[Math.max(1, Math.floor((starts.length - 1) / 2))];
  keep(talk);
  drawTalk();
  recount();
  $("text").focus();
}

/* --- files */
function fileChip(f, drop) {
  return el("div.chip", null, icon("file"), el("span.file", { title: f.name }, f.name), el("span.soft", null, f.tokens < 0 ? "…" : tokens(f.tokens)),
    drop ? el("button.quiet", { type: "button", "aria-label": "Leave out " + f.name, onclick: drop }, icon("x")) : null);
}
function drawFiles() {
  $("files").hidden = !draft.files.length;
  $("files").replaceChildren(...draft.files.map(f => el("li", null, fileChip(f, () => {
    draft.files = draft.files.filter(x => x !== f);
    drawFiles();
    $("text").focus();
  }))));
  tellLeft();
}
async function readText(file) {
  if (file.size > FILE_BYTES) throw new Error(`${file.name} is larger than ${bytes(FILE_BYTES)}`);
  let text;
  try { text = new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer()); } catch { throw new Error(`${file.name} is not a text in UTF-8`); }
  if (text.includes("\0")) throw new Error(`${file.name} is not a text file`);
  if (!text.trim()) throw new Error(`${file.name} is empty`);
  return text;
}
async function addFiles(list) {
  for (const file of list) {
    try {
      const text = await readText(file);
      draft.files.push({ name: file.name, text, tokens: await countTokens(text) });
      drawFiles();
    } catch (e) { toast(e.message); }
  }
  $("text").focus();
}
$("attach").addEventListener("click", () => $("pick").click());
$("pick").addEventListener("change", async () => { await addFiles([...$("pick").files]); $("pick").value = ""; });

const hasFiles = event => event.dataTransfer && [...event.dataTransfer.types].includes("Files");
document.addEventListener("dragover", event => {
  if (!hasFiles(event)) return;
  event.preventDefault();
  $("drop").hidden = false;
});
document.addEventListener("dragleave", event => { if (!event.relatedTarget) $("drop").hidden = true; });
document.addEventListener("drop", event => {
  $("drop").hidden = true;
  if (!hasFiles(event)) return;
  event.preventDefault();
  showTab("chat");
  addFiles([...event.dataTransfer.files]);
});
