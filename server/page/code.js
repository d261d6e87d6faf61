/* code: colours for code, by one expression for each kind of language. What it does not know stays plain. */
const CODE_CHARS = 20000; /* longer code stays plain: it is drawn again with each piece of an answer */
const WORDS = "abstract and as assert async await break case catch class const continue def default defer delete del do elif else enum "
  + "except export extends extern false False final finally fn for foreach from func function go goto if impl implements import in "
  + "include instanceof interface is lambda let loop match mod mut namespace new nil None not null of operator or override package pass "
  + "private protected pub public raise range return self sizeof static struct super switch template this throw trait true True try "
  + "type typedef typename union unsafe use using var virtual void volatile when where while with yield then fi esac done echo local "
  + "int float double char bool boolean string long short unsigned signed auto";
const SQL = "select from where insert into values update set delete create table alter drop index join left right inner outer full on as "
  + "and or not null is in like between group by order having limit offset union all distinct primary key foreign references default case "
  + "when then else end with";

const wordSet = text => new Set(text.split(" "));
const QUOTED = '"(?:\\\\.|[^"\\\\\\n])*"?', TICKED = "'(?:\\\\.|[^'\\\\\\n])*'", NUMBER = "\\b\\d[\\w.]*", NAME = "[A-Za-z_]\\w*";
const kindOf = (comment, string, words) => ({ rule: new RegExp(`(${comment})|(${string})|(${NUMBER})|(${NAME})`, "g"), words: wordSet(words) });
const CODE_KINDS = {
  slash: kindOf("\\/\\/[^\\n]*|\\/\\*[^]*?(?:\\*\\/|$)", QUOTED + "|" + TICKED + "|`(?:\\\\.|[^`\\\\])*`?", WORDS),
  hash: kindOf("#[^\\n]*", '"""[^]*?(?:"""|$)|' + QUOTED + "|" + TICKED, WORDS),
  dash: kindOf("--[^\\n]*", QUOTED + "|" + TICKED, SQL),
  data: kindOf("(?!)", QUOTED, "true false null"),
  tags: kindOf("<!--[^]*?(?:-->|$)", QUOTED + "|<\\/?[A-Za-z][\\w-]*|\\/?>", ""),
};
const LANGS = {};
for (const [kind, names] of Object.entries({
  slash: "c h cpp c++ cc cs csharp cuda java js javascript jsx ts typescript tsx go rust rs swift kotlin kt scala php dart css scss glsl zig",
  hash: "py python rb ruby sh bash shell zsh fish yaml yml toml ini r perl make makefile dockerfile cmake julia nix conf",
  dash: "sql lua haskell hs ada", data: "json jsonl", tags: "html xml svg vue",
})) for (const n of names.split(" ")) LANGS[n] = CODE_KINDS[kind];

function highlight(into, code, lang) {
  const kind = LANGS[lang.toLowerCase()];
  if (!kind || code.length > CODE_CHARS) { into.textContent = code; return; }
  let at = 0;
  for (const m of code.matchAll(kind.rule)) {
    const word = m[4], cls = m[1] ? "c" : m[2] ? (kind === CODE_KINDS.tags && m[2][0] !== '"' ? "t" : "s") : m[3] ? "n"
      : kind.words.has(kind === CODE_KINDS.dash ? word.toLowerCase() : word) ? "k" : "";
    if (!cls) continue;
    into.append(code.slice(at, m.index), el("span." + cls, null, m[0]));
    at = m.index + m[0].length;
  }
  into.append(code.slice(at));
}

function codeBox(code, lang) {
  const inner = el("code");
  highlight(inner, code, lang);
  return el("div.code", null,
    el("header", null, el("span", null, lang || "text"), el("button.quiet", { type: "button", onclick: () => copyText(code) }, icon("copy"), "Copy")),
    el("pre", { tabindex: "0" }, inner));
}
