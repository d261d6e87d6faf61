/* turns: how a turn looks. A view follows its turn by update(); views of the conversation on show are in `views`. */
const views = new Map();

/* --- scrolling: the end stays in sight for those who are at the end, and nobody else is moved */
const NEAR_PX = 24;
let follow = true, lastTop = 0;
const farFromEnd = () => $("scroll").scrollHeight - $("scroll").scrollTop - $("scroll").clientHeight;
function toEnd() {
  follow = true;
  $("scroll").scrollTop = $("scroll").scrollHeight;
  lastTop = $("scroll").scrollTop;
  $("latest").hidden = true;
}
/* Only a reader moves up: what grows below does not count as leaving the end. */
$("scroll").addEventListener("scroll", () => {
  const near = farFromEnd() < NEAR_PX;
  if (near || $("scroll").scrollTop < lastTop) follow = near;
  lastTop = $("scroll").scrollTop;
  $("latest").hidden = near;
});
const grown = new ResizeObserver(() => { if (follow) toEnd(); else $("latest").hidden = farFromEnd() < NEAR_PX; });
grown.observe($("log"));
grown.observe($("scroll"));
$("latest").addEventListener("click", () => { toEnd(); $("text").focus(); });

/* --- a user's turn */
class UserView {
  constructor(turn) {
    this.turn = turn;
    this.box = el("article.user", { "aria-label": "You" });
    this.update();
  }

  update() {
    this.box.classList.remove("edit");
    this.box.replaceChildren(
      ...(this.turn.files.length ? [el("div.files", null, ...this.turn.files.map(f => fileChip(f)))] : []),
      ...(this.turn.text ? [el("div.says", null, this.turn.text)] : []),
      el("div.acts", null, iconButton("copy", "Copy message", () => copyText(this.turn.text)), iconButton("edit", "Edit message", () => this.edit())));
  }

  edit() {
    const box = el("textarea", { "aria-label": "Edit message", rows: "3" });
    box.value = this.turn.text;
    const save = () => {
      if (!box.value.trim() && !this.turn.files.length) return;
      this.turn.text = box.value.trim();
      askAgain(talk.turns.indexOf(this.turn) + 1);
    };
    const leave = () => { this.update(); this.box.querySelector("[aria-label='Edit message']").focus(); };
    box.addEventListener("keydown", event => {
      if (event.key === "Escape") { event.stopPropagation(); leave(); }
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); save(); }
    });
    this.box.classList.add("edit");
    this.box.replaceChildren(box, el("div.buttons", null,
      el("button.plain", { type: "button", onclick: leave }, "Cancel"), el("button", { type: "button", onclick: save }, "Send again")));
    box.focus();
  }
}

/* --- what stands under an answer */
function stripOf(mask) {
  const cells = [...mask].map((bit, l) => el(bit === "1" ? "i.f" : "i", { title: `layer ${l}: ${bit === "1" ? "full" : "sparse"}` }));
  const full = [...mask].filter(b => b === "1").length;
  return el("div.strip", { role: "img", "aria-label": `Route: ${full} full and ${mask.length - full} sparse layers` }, ...cells);
}
/* The KV memory of the route, beside what full attention in every layer would have taken. */
function costOf(route) {
  const share = route.kv_bytes_full ? route.kv_bytes / route.kv_bytes_full : 1, bar = el("i");
  bar.style.width = 100 * share + "%";
  return el("div.cost", null, el("span", null, `${route.full_layers} of ${route.mask.length} layers full`),
    el("span", null, el("span.kv", { "aria-hidden": "true" }, bar), share < 0.995 ? `KV ${bytes(route.kv_bytes)}; full attention ${bytes(route.kv_bytes_full)}` : `KV ${bytes(route.kv_bytes)}, as with full attention`));
}
function factsOf(turn) {
  const u = turn.usage, cached = u && u.prompt_tokens_details && u.prompt_tokens_details.cached_tokens, out = [];
  if (turn.finish === "stopped") out.push("stopped");
  if (isNumber(turn.ttftMs)) out.push(`first token ${span(turn.ttftMs / 1000)}`);
  if (turn.rate) out.push(`${few(turn.rate)} tok/s`);
  if (u) out.push(`${count(u.prompt_tokens)} + ${count(turn.out)} tokens`);
  if (cached) out.push(`${count(cached)} cached`);
  return el("div.facts", null, out.join(" · "));
}
/* An answer that the limit has cut says so, and how to go on. */
function cutOf(turn) {
  const left = server.maxLen && turn.usage ? server.maxLen - turn.usage.prompt_tokens - turn.usage.completion_tokens : null;
  if (left !== null && left < FULL_TOK) return el("div.cut", null, `cut at ${tokens(turn.out)}: the context is full`);
  const line = el("div.cut", null, el("span", null, `cut at ${tokens(turn.out)}` + (left === null ? "" : `, ${count(left)} left`)));
  const last = talk.turns[talk.turns.length - 1] === turn;
  if (last && turn.text) line.append(el("button.link", { type: "button", onclick: () => goOn(turn) }, "go on"));
  else if (last) line.append(el("button.link", { type: "button", onclick: () => askAgain(talk.turns.indexOf(turn), 2 * turn.out) }, "again with twice as many"));
  return line;
}
function noteOf(turn) {
  const route = turn.usage && turn.usage.attention_route;
  return el("div.note", null, ...(route && route.mask ? [stripOf(route.mask), costOf(route)] : []), factsOf(turn), turn.finish === "length" ? cutOf(turn) : null);
}

class AnswerView {
  constructor(turn) {
    this.turn = turn;
    this.text = el("div.md");
    this.markdown = new Markdown(this.text);
    this.wait = el("span.wait", { "aria-hidden": "true" });
    this.rest = el("div");
    this.box = el("article.answer", { "aria-label": "Answer" }, this.text, this.wait, this.rest);
    this.update();
  }

  think() {
    const t = this.turn;
    if (!t.thought) return;
    if (!this.thought) this.text.before(this.thought = el("details.thought", null, el("summary"), el("div")));
    const live = isLive(t) && !t.text, [head, body] = this.thought.children;
    this.thought.toggleAttribute("data-live", live);
    head.textContent = live ? "Thinking…" : isNumber(t.thoughtMs) ? `Thought for ${span(t.thoughtMs / 1000)}` : "Thoughts";
    body.textContent = t.thought;
  }

  update() {
    const t = this.turn, live = isLive(t);
    this.think();
    if (this.shown !== t.text) this.markdown.set(this.shown = t.text);
    this.wait.hidden = !live || t.text !== "";
    this.box.setAttribute("aria-busy", live);
    if (live) { this.rest.replaceChildren(el("div.note", null, factsOf(t))); return; }
    const i = talk.turns.indexOf(t);
    this.rest.replaceChildren(
      ...(t.error ? [el("div.error", { role: "alert" }, el("span", null, t.error), el("button.plain", { type: "button", onclick: () => askAgain(i) }, "Try again"))] : []),
      noteOf(t),
      el("div.acts", null, iconButton("copy", "Copy answer", () => copyText(t.text)), iconButton("again", "Answer again", () => askAgain(i))));
  }
}

/* --- the conversation on show */
function emptyTalk() {
  const pattern = "101001000100010001001000010001".split("").map(b => el(b === "1" ? "i.f" : "i"));
  const idea = text => el("button.plain", { type: "button", onclick: () => { setDraft(text); $("text").focus(); } }, text);
  return el("div.empty", null, el("div.strip", { "aria-hidden": "true" }, ...pattern), el("h2", null, "Ask something"),
    el("p", null, "Under each answer a strip shows the route: which layers attended to everything, and which looked only near."),
    el("div.buttons", null, idea("What is the capital of France?"), idea("Write a haiku about memory"), idea("Explain what a hash table is")));
}
function showTurn(turn) {
  const view = turn.role === "user" ? new UserView(turn) : new AnswerView(turn);
  views.set(turn, view);
  $("log").append(view.box);
}
function drawTalk() {
  views.clear();
  $("log").replaceChildren();
  if (!talk.turns.length) $("log").append(emptyTalk());
  talk.turns.forEach((turn, i) => {
    if (i > 0 && i === talk.from) $("log").append(el("p.line", null, "turns above are no longer sent"));
    showTurn(turn);
    if (i < talk.from) views.get(turn).box.classList.add("left-out");
  });
  if (talk.from > 0 && talk.from === talk.turns.length) $("log").append(el("p.line", null, "turns above are no longer sent"));
}
