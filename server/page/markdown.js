/* markdown: a small Markdown that makes elements, never markup: HTML in an answer is text, images are links, and links go to http, https
 * and mailto alone. Every search that fails is remembered or bounded, so the work is linear in the text.
 *
 * First floor: lines become blocks (blockEnd finds where one ends). Second floor: the words in a block. */
const MD_DEPTH = 10, LINK_CHARS = 600;

/* --- blocks */
const HEAD = /^ {0,3}(#{1,6})(?=\s|$)/, RULE = /^ {0,3}([-*_])(?:[ \t]*\1){2,}[ \t]*$/;
const QUOTE = /^ {0,3}> ?/, ITEM = /^( {0,3})([-*+]|\d{1,9}[.)])([ \t]+|$)/, BLANK = /^\s*$/;
const spread = line => line.replace(/^[ \t]+/, s => s.replace(/\t/g, "    ")); /* tabs before the text */
const indentOf = line => /^ */.exec(spread(line))[0].length;
/* [mark, language], or null. */
function fenceOf(line) {
  const t = line.trimStart(), m = /^(?:`{3,}|~{3,})/.exec(t);
  return m && !(m[0][0] === "`" && t.includes("`", m[0].length)) ? [m[0], t.slice(m[0].length).trim().split(/\s/, 1)[0]] : null;
}
const closesFence = (line, mark) => {
  const t = line.trim();
  return t.length >= mark.length && t === mark[0].repeat(t.length);
};
const isItem = line => ITEM.test(line) && !RULE.test(line);
const startsBlock = line => fenceOf(line) || HEAD.test(line) || RULE.test(line) || QUOTE.test(line) || isItem(line);
const cellsOf = line => line.trim().replace(/^\||\|$/g, "").split("|").map(c => c.trim());
const isTable = (line, next) => line.includes("|") && next !== undefined && next.includes("-") && /^[\s|:-]+$/.test(next)
  && cellsOf(next).every(c => /^:?-+:?$/.test(c)) && cellsOf(next).length === cellsOf(line).length;

function fenceEnd(lines, i) {
  const mark = fenceOf(lines[i])[0];
  for (let j = i + 1; j < lines.length; j++) if (closesFence(lines[j], mark)) return j + 1;
  return lines.length;
}
function listEnd(lines, i) {
  const isOrdered = line => /\d/.test(ITEM.exec(line)[2]), ordered = isOrdered(lines[i]);
  let blank = false;
  for (let j = i + 1; j < lines.length; j++) {
    const line = lines[j];
    if (BLANK.test(line)) { blank = true; continue; }
    if (indentOf(line) > 1) {
      if (fenceOf(line)) j = fenceEnd(lines, j) - 1;
    } else if (isItem(line) ? isOrdered(line) !== ordered : blank || startsBlock(line)) return j;
    blank = false;
  }
  return lines.length;
}
const blockEnd = {
  fence: fenceEnd,
  head: (lines, i) => i + 1,
  rule: (lines, i) => i + 1,
  quote: (lines, i) => { while (i < lines.length && QUOTE.test(lines[i])) i++; return i; },
  list: listEnd,
  table: (lines, i) => { i += 2; while (i < lines.length && lines[i].includes("|")) i++; return i; },
  text: (lines, i) => {
    do i++; while (i < lines.length && !BLANK.test(lines[i]) && !startsBlock(lines[i]) && !isTable(lines[i], lines[i + 1]));
    return i;
  },
};
function blockKind(lines, i) {
  const line = lines[i];
  return fenceOf(line) ? "fence" : HEAD.test(line) ? "head" : RULE.test(line) ? "rule" : QUOTE.test(line) ? "quote"
    : isItem(line) ? "list" : isTable(line, lines[i + 1]) ? "table" : "text";
}

const makeBlock = {
  fence(lines) {
    const [mark, lang] = fenceOf(lines[0]), indent = indentOf(lines[0]);
    const closed = lines.length > 1 && closesFence(lines[lines.length - 1], mark);
    const body = lines.slice(1, closed ? -1 : undefined).map(l => l.slice(Math.min(indent, /^ */.exec(l)[0].length)));
    return codeBox(body.join("\n"), lang);
  },
  head(lines) {
    const mark = HEAD.exec(lines[0])[1];
    return words(el("h" + mark.length), lines[0].trim().slice(mark.length).replace(/(^|\s)#+$/, "").trim());
  },
  rule: () => el("hr"),
  quote: (lines, depth) => blocks(el("blockquote"), lines.map(l => l.replace(QUOTE, "")), depth + 1),
  list(lines, depth) {
    const first = ITEM.exec(lines[0]), start = parseInt(first[2], 10), base = first[1].length;
    const list = Number.isNaN(start) ? el("ul") : el("ol", { start: start === 1 ? null : start });
    const items = [];
    let width = 0;
    for (const line of lines.map(spread)) {
      const m = ITEM.exec(line);
      if (m && !RULE.test(line) && m[1].length < base + 2) {
        width = m[1].length + m[2].length + Math.min(Math.max(m[3].length, 1), 4);
        items.push([line.slice(m[0].length)]);
      } else items[items.length - 1].push(line.slice(Math.min(width, indentOf(line))));
    }
    for (const item of items) list.append(listItem(item, depth));
    return list;
  },
  table(lines) {
    const side = cellsOf(lines[1]).map(c => c.endsWith(":") ? (c.startsWith(":") ? "center" : "right") : "");
    const row = (line, tag) => el("tr", null, ...cellsOf(line).slice(0, side.length).map((c, i) => words(el(side[i] ? tag + "." + side[i] : tag), c)));
    return el("div.wide-table", { tabindex: "0", role: "group", "aria-label": "Table" },
      el("table", null, el("thead", null, row(lines[0], "th")), el("tbody", null, ...lines.slice(2).map(l => row(l, "td")))));
  },
  text: lines => words(el("p"), lines.map((l, i) => i < lines.length - 1 ? l.trimStart() : l.trim()).join("\n")),
};
function listItem(lines, depth) {
  while (lines.length > 1 && BLANK.test(lines[lines.length - 1])) lines.pop();
  const task = /^\[([ xX])\] /.exec(lines[0]);
  if (task) lines[0] = lines[0].slice(4);
  const item = blocks(el(task ? "li.task" : "li"), lines, depth + 1);
  const paragraphs = [...item.children].filter(e => e.tagName === "P");
  if (paragraphs.length === 1) paragraphs[0].replaceWith(...paragraphs[0].childNodes); /* lists stand close, whatever blank lines they have */
  if (task) item.prepend(task[1] === " " ? "☐ " : "☑ ");
  return item;
}
function blocks(into, lines, depth) {
  if (depth > MD_DEPTH) { into.append(lines.join("\n")); return into; }
  for (let i = 0; i < lines.length;) {
    if (BLANK.test(lines[i])) { i++; continue; }
    const kind = blockKind(lines, i), end = blockEnd[kind](lines, i);
    into.append(makeBlock[kind](lines.slice(i, end), depth));
    i = end;
  }
  return into;
}

/* --- words */
const ENTITY = { "&lt;": "<", "&gt;": ">", "&amp;": "&", "&quot;": '"', "&#39;": "'", "&nbsp;": "\u00a0" };
const EMPHASIS = [["**", "strong"], ["__", "strong"], ["~~", "del"], ["*", "em"], ["_", "em"]];
const isWord = c => c !== undefined && /[\p{L}\p{N}_]/u.test(c), isSpace = c => c === undefined || /\s/.test(c);

function runEnd(text, i) {
  let j = i;
  while (text[j] === text[i]) j++;
  return j;
}
/* The position of the run of exactly n backticks that ends the code begun before i, or -1. */
function tickEnd(text, i, n, found) {
  if (found.has(n)) return -1;
  for (let j = text.indexOf("`", i); j >= 0; j = text.indexOf("`", runEnd(text, j))) if (runEnd(text, j) - j === n) return j;
  found.set(n, -1);
  return -1;
}
/* Where the mark that stands before i is closed: outside code, behind something that is no space. */
function markEnd(text, i, mark, found) {
  if (found.has(mark)) return -1;
  for (let j = i; j < text.length; j++) {
    const c = text[j];
    if (c === "\\") { j++; continue; }
    if (c === "`") {
      const open = runEnd(text, j), end = tickEnd(text, open, open - j, found);
      j = (end < 0 ? open : end + open - j) - 1;
      continue;
    }
    if (c !== mark[0]) continue;
    const run = runEnd(text, j) - j;
    const fits = mark.length === 2 ? run >= 2 : run === 1 || run === 3;
    if (j > i && fits && !isSpace(text[j - 1]) && !(mark[0] === "_" && isWord(text[j + run]))) return j + (run === 3 && mark.length === 2 ? 1 : 0);
    j += run - 1;
  }
  found.set(mark, -1);
  return -1;
}

/* A link that is safe to follow, else its text alone. */
function link(href, label) {
  let url = null;
  try { url = new URL(href); } catch { /* relative, or none */ }
  if (!url || !["http:", "https:", "mailto:"].includes(url.protocol)) return label;
  return el("a", { href: url.href, target: "_blank", rel: "noopener noreferrer" }, label);
}
/* "[label](url)" at i: [label, url, end], or null. */
function linkAt(text, i, found) {
  if (!(found.get("](") >= i)) {
    const next = text.indexOf("](", i);
    found.set("](", next < 0 ? Infinity : next);
  }
  if (found.get("](") > i + LINK_CHARS) return null;
  const most = Math.min(text.length, i + LINK_CHARS);
  let depth = 0, j = i;
  for (; j < most; j++) {
    if (text[j] === "\\") j++;
    else if (text[j] === "[") depth++;
    else if (text[j] === "]" && --depth === 0) break;
  }
  if (j >= most || text[j + 1] !== "(") return null;
  let k = j + 2, round = 1;
  for (; k < j + 4 * LINK_CHARS && k < text.length && text[k] !== "\n"; k++) {
    if (text[k] === "(") round++;
    else if (text[k] === ")" && --round === 0) break;
  }
  if (text[k] !== ")") return null;
  const url = /^\s*<?([^\s>]*)/.exec(text.slice(j + 2, k))[1];
  return [text.slice(i + 1, j), url, k + 1];
}
const BARE = /https?:\/\/[^\s<>"'`]{1,2000}/y;
function bareAt(text, i) {
  BARE.lastIndex = i;
  const m = BARE.exec(text);
  if (!m) return null;
  let url = m[0].replace(/[.,;:!?*_~]+$/, "");
  while (url.endsWith(")") && url.split(")").length > url.split("(").length) url = url.slice(0, -1);
  return url.length > 8 ? url : null;
}

/* What may begin at i: [end, node], or null for a character like any other. */
function wordAt(text, i, depth, found, inLink) {
  const c = text[i];
  if (c === "\n") return [i + 1, el("br")];
  if (c === "\\") return text[i + 1] === "\n" ? [i + 1, ""] : /[\\`*_~#|>!+.-]/.test(text[i + 1] || "") ? [i + 2, text[i + 1]] : null;
  if (c === "&") {
    const m = /^&(?:lt|gt|amp|quot|nbsp|#39);/.exec(text.slice(i, i + 6));
    return m && [i + m[0].length, ENTITY[m[0]]];
  }
  if (c === "`") {
    const open = runEnd(text, i), end = tickEnd(text, open, open - i, found);
    if (end < 0) return [open, text.slice(i, open)];
    const code = text.slice(open, end).replace(/\n/g, " ");
    return [end + open - i, el("code", null, /^ .*[^ ].* $/.test(code) ? code.slice(1, -1) : code)];
  }
  if (c === "h") {
    if (inLink || isWord(text[i - 1])) return null;
    const url = bareAt(text, i);
    return url && [i + url.length, link(url, url)];
  }
  if (c === "[" || (c === "!" && text[i + 1] === "[")) {
    const got = inLink ? null : linkAt(text, c === "!" ? i + 1 : i, found);
    if (!got) return null;
    const label = words(el("span"), c === "!" ? "image: " + (got[0] || got[1]) : got[0] || got[1], depth + 1, true);
    return [got[2], link(got[1], label)];
  }
  for (const [mark, tag] of EMPHASIS) {
    if (!text.startsWith(mark, i)) continue;
    const from = i + mark.length;
    if (isSpace(text[from]) || (mark[0] === "_" && isWord(text[i - 1]))) continue;
    const end = markEnd(text, from, mark, found);
    if (end >= 0) return [end + mark.length, words(el(tag), text.slice(from, end), depth + 1, inLink)];
  }
  return "*_~".includes(c) ? [runEnd(text, i), text.slice(i, runEnd(text, i))] : null;
}
const SPECIAL = /[\n\\&`h[!*_~]/g;
function words(into, text, depth = 0, inLink = false) {
  if (depth > MD_DEPTH) { into.append(text); return into; }
  const found = new Map(); /* ends that were looked for and are not there, and where the next link's middle is */
  let at = 0, i = 0;
  for (;;) {
    SPECIAL.lastIndex = i;
    const m = SPECIAL.exec(text);
    if (!m) break;
    const got = wordAt(text, m.index, depth, found, inLink);
    i = got ? got[0] : m.index + 1;
    if (!got) continue;
    into.append(text.slice(at, m.index), got[1]);
    at = i;
  }
  into.append(text.slice(at));
  return into;
}

/* A text that grows: all blocks but the last two stay as they are. What follows can change the last line alone, and with it the block before
 * ("a | b", then "-", is a list behind a line, until "--|--" makes it a table). Each block is one element of the box. */
class Markdown {
  constructor(box) {
    this.box = box;
    this.text = "";
    this.done = this.kept = 0; /* characters and elements before the last two blocks */
  }

  set(text) {
    if (!text.startsWith(this.text)) this.done = this.kept = 0;
    this.text = text;
    while (this.box.childNodes.length > this.kept) this.box.lastChild.remove();
    const lines = text.slice(this.done).split("\n");
    let at = this.done, last = { at, kept: this.kept };
    for (let i = 0; i < lines.length;) {
      if (BLANK.test(lines[i])) { at += lines[i++].length + 1; continue; }
      const kind = blockKind(lines, i), end = blockEnd[kind](lines, i);
      this.done = last.at;
      this.kept = last.kept;
      last = { at, kept: this.box.childNodes.length };
      this.box.append(makeBlock[kind](lines.slice(i, end), 0));
      for (; i < end; i++) at += lines[i].length + 1;
    }
  }
}
