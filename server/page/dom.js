/* dom: short names for elements. Text goes in as text nodes: no string ever becomes markup. */
const $ = id => document.getElementById(id);

/* el("p.soft", { title: "x", onclick: f }, "text", child, null): attributes that are false or null are left out. */
function el(what, props, ...inside) {
  const [tag, ...classes] = what.split(".");
  const e = document.createElement(tag);
  if (classes.length) e.className = classes.join(" ");
  for (const [k, v] of Object.entries(props || {})) {
    if (k.startsWith("on")) e.addEventListener(k.slice(2), v);
    else if (v !== false && v != null) e.setAttribute(k, v === true ? "" : v);
  }
  e.append(...inside.filter(x => x != null));
  return e;
}
const SVG = "http://www.w3.org/2000/svg";
function svg(tag, props, ...inside) {
  const e = document.createElementNS(SVG, tag);
  for (const [k, v] of Object.entries(props || {})) e.setAttribute(k, v);
  e.append(...inside);
  return e;
}
const icon = name => svg("svg", { class: "icon", "aria-hidden": "true" }, svg("use", { href: "#i-" + name }));
const iconButton = (name, label, onclick) => el("button.quiet", { type: "button", "aria-label": label, title: label, onclick }, icon(name));

/* --- numbers for people */
const count = n => Math.round(n).toLocaleString("en");
const tokens = n => count(n) + (Math.round(n) === 1 ? " token" : " tokens");
function few(n) { return n === 0 ? "0" : n >= 100 ? count(n) : n >= 10 ? n.toFixed(0) : n.toFixed(1); }
function bytes(n) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let i = 0;
  while (n >= 1024 && i < units.length - 1) { n /= 1024; i++; }
  return (i === 0 || n >= 100 ? n.toFixed(0) : n.toFixed(1)) + " " + units[i];
}
const span = s => s < 1 ? Math.round(s * 1000) + " ms" : s < 10 ? s.toFixed(2) + " s" : s < 100 ? s.toFixed(1) + " s" : count(s) + " s";

/* Runs f once, ms after the last call. */
function later(ms, f) {
  let timer = 0;
  return () => { clearTimeout(timer); timer = setTimeout(f, ms); };
}

/* A line that goes away by itself, with one thing to do about it. */
let toastTimer = 0;
function toast(text, action, run) {
  clearTimeout(toastTimer);
  const line = el("div", null, el("span", null, text));
  if (action) line.append(el("button", { type: "button", onclick: () => { $("toast").replaceChildren(); run(); } }, action));
  $("toast").replaceChildren(line);
  toastTimer = setTimeout(() => $("toast").replaceChildren(), action ? 8000 : 4000);
}

/* Where there is no clipboard (a page by plain HTTP from another machine) the old way still works. */
async function copyText(text) {
  try { await navigator.clipboard.writeText(text); } catch {
    const box = el("textarea.unseen", { "aria-hidden": "true", readonly: true });
    box.value = text;
    document.body.append(box);
    box.select();
    const done = document.execCommand("copy");
    box.remove();
    if (!done) { toast("The browser refused to copy"); return; }
  }
  toast("Copied");
}

function saveFile(name, type, text) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  el("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}
