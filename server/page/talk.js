/* talk: what happens to a conversation: send, answer, stop, again, go on. Each conversation has at most one answer under way. */
const KEEP_MS = 2000, DRAW_MS = 40;
const live = new Map(); /* talk id -> { talk, turn, abort } */
const isLive = turn => [...live.values()].some(r => r.turn === turn);
let talk = loadTalk(setting("open") || "") || newTalk(setting("system") || "");

const unkept = new Set();
function keep(t) {
  t.at = Date.now();
  if (!keepTalk(t) && !unkept.has(t.id)) {
    unkept.add(t.id);
    toast("This conversation is too long to be kept: export it before you close the page");
  }
  listSide();
}

function request(t, messages, more) {
  return { model: server.model || undefined, messages, stream: true, stream_options: { include_usage: true, continuous_usage_stats: true }, ...samplingFields(), ...more };
}
/* A longest answer that no longer fits is shortened to what does, instead of being refused. */
async function fitted(body) {
  const want = body.max_tokens;
  if (!want || !server.maxLen || want < tokensLeft() - LOW_TOK) return body;
  const room = server.maxLen - await countTokens(body.messages);
  return room > 0 && room < want ? { ...body, max_tokens: room } : body;
}

/* Reads frames into the turn; draw is called after each. */
async function readAnswer(turn, response, times, before, draw) {
  for await (const frame of frames(response.body)) {
    if (frame === "[DONE]") return;
    const data = JSON.parse(frame), choice = data.choices && data.choices[0], now = performance.now();
    if (data.error) throw new Refused(200, data.error);
    const delta = choice && choice.delta || {};
    if (delta.reasoning_content || delta.content) {
      if (!times.first) { times.first = now; turn.ttftMs = now - times.start; }
      times.last = now;
    }
    if (delta.reasoning_content) { turn.thought = (turn.thought || "") + delta.reasoning_content; turn.thoughtMs = now - times.first; }
    if (delta.content) turn.text += delta.content;
    if (choice && choice.finish_reason) turn.finish = choice.finish_reason;
    if (data.usage) {
      const n = data.usage.completion_tokens;
      turn.usage = data.usage;
      turn.out = before + n;
      if (n > 1 && times.last > times.first) turn.rate = (n - 1) * 1000 / (times.last - times.first);
    }
    draw();
  }
  throw new Error("The connection ended before the answer did");
}

async function answer(t, turn, messages, more) {
  const run = { talk: t, turn, abort: new AbortController() }, times = { start: performance.now(), first: 0, last: 0 }, before = turn.out || 0;
  let kept = times.start, asked = false;
  const draw = () => {
    if (performance.now() - kept > KEEP_MS) { kept = performance.now(); keep(t); }
    if (asked) return;
    asked = true;
    setTimeout(() => { asked = false; if (views.has(turn) && live.get(t.id) === run) views.get(turn).update(); }, DRAW_MS);
  };
  delete turn.error;
  delete turn.finish;
  live.set(t.id, run);
  tellSend();
  listSide();
  try {
    const body = await fitted(request(t, messages, more));
    await readAnswer(turn, await ask("/v1/chat/completions", body, run.abort.signal), times, before, draw);
  } catch (e) {
    if (e.name === "AbortError") turn.finish = "stopped";
    else { turn.error = e.message; turn.code = e.code; }
  }
  live.delete(t.id);
  if (unwanted.delete(t.id)) return;
  keep(t);
  if (talk === t) {
    tellSend();
    if (views.has(turn)) views.get(turn).update();
    recount();
    $("said").textContent = turn.error ? "" : `Answer ${turn.finish === "stopped" ? "stopped" : "complete"}, ${tokens(turn.out || 0)}`;
  }
}

/* A new answer at the end of the conversation. */
function answerNow(more) {
  const messages = messagesOf(talk), turn = { role: "assistant", text: "", out: 0 };
  talk.turns.push(turn);
  drawTalk();
  toEnd();
  const done = answer(talk, turn, messages, more);
  views.get(turn).update();
  keep(talk);
  return done;
}
function send() {
  const text = $("text").value.trim();
  if (live.has(talk.id) || (!text && !draft.files.length)) return;
  if (server.maxLen && tokensLeft() < FULL_TOK && draft.textTokens) return; /* the bar says what can be done */
  if (!talk.turns.length) talk.title = titleOf(text || draft.files[0].name);
  talk.turns.push({ role: "user", text, files: draft.files });
  usedTokens += draftTokens();
  clearDraft();
  answerNow();
}
/* Turns from i on are replaced by a new answer. */
function askAgain(i, maxTokens) {
  if (live.has(talk.id)) { toast("Stop the answer first"); return; }
  talk.turns.length = i;
  talk.from = Math.min(talk.from, Math.max(0, i - 1));
  if (!talk.turns.length) { drawTalk(); return; }
  answerNow(maxTokens ? { max_tokens: maxTokens } : undefined);
  $("text").focus();
}
function goOn(turn) {
  if (live.has(talk.id)) return;
  toEnd();
  answer(talk, turn, messagesOf(talk), { continue_final_message: true, add_generation_prompt: false });
  views.get(turn).update();
}
function stop() {
  const run = live.get(talk.id);
  if (run) run.abort.abort();
  return !!run;
}
function tellSend() {
  const busy = live.has(talk.id);
  $("send").setAttribute("aria-label", busy ? "Stop" : "Send");
  $("send").title = busy ? "Stop (Esc)" : "Send (Enter)";
  $("send").replaceChildren(icon(busy ? "stop" : "send"));
}

/* --- which conversation is on show */
function showTalk(t) {
  talk = t;
  usedTokens = 0;
  setting("open", t.id);
  drawTalk();
  tellSend();
  listSide();
  recount();
  toEnd();
  closeSide();
}
function startTalk() {
  showTalk(newTalk(setting("system") || ""));
  showTab("chat");
  $("text").focus();
}
const unwanted = new Set(); /* deleted while their answer was under way: not kept again */
function removeTalk(id) {
  if (live.has(id)) { unwanted.add(id); live.get(id).abort.abort(); }
  dropTalk(id);
  if (talk.id === id) showTalk(newTalk(setting("system") || ""));
  else listSide();
}
/* One with an answer under way is the one in memory, not what storage holds of it. */
function openTalk(id) {
  const t = live.has(id) ? live.get(id).talk : loadTalk(id);
  if (!t) { toast("This conversation is gone"); listSide(); return; }
  showTalk(t);
  showTab("chat");
}

function listSide() {
  const rows = listTalks().map(t => {
    const here = t.id === talk.id;
    const remove = () => {
      const gone = loadTalk(t.id);
      removeTalk(t.id);
      toast("Conversation deleted", "Undo", () => { unwanted.delete(t.id); if (gone) keep(gone); });
    };
    const li = el("li", null,
      el("button.name", { type: "button", title: t.title, "aria-current": here ? "true" : null, onclick: () => openTalk(t.id) }, t.title),
      iconButton("save", `Export "${t.title}"`, () => saveFile("conversation.json", "application/json", JSON.stringify(exported(loadTalk(t.id)), null, 1))),
      iconButton("trash", `Delete "${t.title}"`, remove));
    for (const b of [...li.children].slice(1)) b.classList.add("act");
    li.classList.toggle("here", here);
    li.classList.toggle("busy", live.has(t.id));
    return li;
  });
  $("talks").replaceChildren(...rows);
}
