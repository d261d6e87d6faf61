/* store: conversations in localStorage, one entry each. Bounded: at most KEEP_TALKS of them and KEEP_CHARS in all; the oldest go first.
 *
 * talk: { id, title, at, system, from, turns }; turns before `from` are no longer sent.
 * turn: { role: "user", text, files: [{ name, text, tokens }] }
 *       { role: "assistant", text, thought, thoughtMs, usage, out, ttftMs, rate, finish, error, code } */
const PREFIX = "fluxd.talk.", KEEP_TALKS = 100, KEEP_CHARS = 4000000, TITLE_CHARS = 60;

/* Where the browser refuses storage, the same things last as long as the page. */
const storage = (() => {
  try {
    localStorage.setItem("fluxd.try", "1");
    localStorage.removeItem("fluxd.try");
    return localStorage;
  } catch {
    const held = new Map();
    return {
      get length() { return held.size; }, key: i => [...held.keys()][i], getItem: k => held.has(k) ? held.get(k) : null,
      setItem: (k, v) => { held.set(k, String(v)); }, removeItem: k => { held.delete(k); },
    };
  }
})();

const isText = x => typeof x === "string";
const isNumber = x => typeof x === "number" && Number.isFinite(x);
function goodTurn(t) {
  return t && (t.role === "user" || t.role === "assistant") && isText(t.text)
    && (t.role === "assistant" || (Array.isArray(t.files) && t.files.every(f => f && isText(f.name) && isText(f.text) && isNumber(f.tokens))));
}
/* What another version, or somebody by hand, has written must not break the page. */
function readTalk(text) {
  try {
    const t = JSON.parse(text);
    if (t && isText(t.id) && isText(t.title) && isNumber(t.at) && isText(t.system) && isNumber(t.from) && Array.isArray(t.turns) && t.turns.every(goodTurn)) return t;
  } catch { /* not JSON */ }
  return null;
}

const newTalk = system => ({ id: Date.now().toString(36) + Math.random().toString(36).slice(2, 8), title: "New conversation", at: Date.now(), system, from: 0, turns: [] });

/* Newest first; [{ id, title, at, chars }]. */
function listTalks() {
  const all = [];
  for (let i = 0; i < storage.length; i++) {
    const k = storage.key(i);
    if (!k.startsWith(PREFIX)) continue;
    const text = storage.getItem(k), t = readTalk(text);
    if (t) all.push({ id: t.id, title: t.title, at: t.at, chars: text.length });
  }
  return all.sort((a, b) => b.at - a.at);
}
const loadTalk = id => readTalk(storage.getItem(PREFIX + id) || "");
const dropTalk = id => storage.removeItem(PREFIX + id);

/* False: it is too long to keep, and lives as long as the page. */
function keepTalk(talk) {
  const text = JSON.stringify(talk), others = listTalks().filter(t => t.id !== talk.id);
  let chars = text.length + others.reduce((n, t) => n + t.chars, 0);
  while (others.length && (chars > KEEP_CHARS || others.length >= KEEP_TALKS)) {
    const oldest = others.pop();
    chars -= oldest.chars;
    dropTalk(oldest.id);
  }
  while (chars <= KEEP_CHARS) {
    try { storage.setItem(PREFIX + talk.id, text); return true; } catch {
      if (!others.length) break;
      dropTalk(others.pop().id); /* the browser's own bound is lower */
    }
  }
  dropTalk(talk.id);
  return false;
}

const titleOf = text => {
  const line = text.trim().replace(/\s+/g, " ");
  return line.length > TITLE_CHARS ? line.slice(0, TITLE_CHARS - 1) + "…" : line;
};

/* What the model gets for a turn: files first, each under its name, then the words. */
const contentOf = turn => [...(turn.files || []).map(f => `File "${f.name}":\n${f.text}`), turn.text].filter(Boolean).join("\n\n");
function messagesOf(talk, upTo = talk.turns.length) {
  const out = talk.system ? [{ role: "system", content: talk.system }] : [];
  for (const t of talk.turns.slice(talk.from, upTo)) if (contentOf(t)) out.push({ role: t.role, content: contentOf(t) });
  return out;
}

/* What leaves the page: OpenAI's messages with what was seen beside them. */
function exported(talk) {
  const messages = messagesOf({ ...talk, from: 0 });
  return { title: talk.title, updated: new Date(talk.at).toISOString(), messages, turns: talk.turns };
}

function setting(name, value) {
  if (value === undefined) {
    try { return JSON.parse(storage.getItem("fluxd.set." + name)); } catch { return null; }
  }
  try { storage.setItem("fluxd.set." + name, JSON.stringify(value)); } catch { /* full: it holds until the page goes */ }
  return value;
}
