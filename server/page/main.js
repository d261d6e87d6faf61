/* main: tabs, the side, keys, and the start. */
function showTab(name) {
  for (const n of ["chat", "engine"]) {
    const here = n === name;
    $("tab-" + n).setAttribute("aria-selected", here);
    $("tab-" + n).tabIndex = here ? 0 : -1;
    $(n).hidden = !here;
  }
  drawEngine();
  if (name === "chat" && follow) toEnd();
}
for (const n of ["chat", "engine"]) {
  $("tab-" + n).addEventListener("click", () => showTab(n));
  $("tab-" + n).addEventListener("keydown", event => {
    if (!["ArrowLeft", "ArrowRight", "Home", "End"].includes(event.key)) return;
    const other = event.key === "Home" ? "chat" : event.key === "End" ? "engine" : n === "chat" ? "engine" : "chat";
    showTab(other);
    $("tab-" + other).focus();
  });
}

/* --- the side, which covers the page where that is narrow */
function openSide() {
  $("side").classList.add("open");
  $("scrim").hidden = false;
  $("menu").setAttribute("aria-expanded", "true");
  $("new").focus();
}
function closeSide() {
  if (!$("side").classList.contains("open")) return false;
  $("side").classList.remove("open");
  $("scrim").hidden = true;
  $("menu").setAttribute("aria-expanded", "false");
  return true;
}
$("menu").addEventListener("click", () => closeSide() || openSide());
$("scrim").addEventListener("click", closeSide);
$("new").addEventListener("click", startTalk);

/* --- keys */
$("form").addEventListener("submit", event => {
  event.preventDefault();
  if (!stop()) send();
});
$("text").addEventListener("input", () => { growBox(); countDraft(); });
$("text").addEventListener("keydown", event => {
  if (event.isComposing) return;
  if (event.key === "Enter" && !event.shiftKey) { event.preventDefault(); send(); }
  if (event.key === "ArrowUp" && !$("text").value && !live.has(talk.id)) {
    const last = talk.turns.findLast(t => t.role === "user");
    if (last) { event.preventDefault(); views.get(last).edit(); }
  }
});
document.addEventListener("keydown", event => {
  if (document.querySelector("dialog[open]")) return;
  const writing = /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName), alt = event.altKey && !event.ctrlKey && !event.metaKey;
  const does = event.key === "Escape" ? () => { if (closeSide()) $("menu").focus(); else stop(); }
    : event.key === "/" && !writing ? () => { showTab("chat"); $("text").focus(); }
    : alt && event.code === "KeyN" ? startTalk
    : alt && event.code === "Digit1" ? () => { showTab("chat"); $("text").focus(); }
    : alt && event.code === "Digit2" ? () => { showTab("engine"); $("tab-engine").focus(); }
    : alt && event.code === "Comma" ? openDrawer : null;
  if (does) { event.preventDefault(); does(); }
});

/* --- start */
showTalk(talk);
window.addEventListener("storage", listSide);
window.addEventListener("pagehide", () => { for (const r of live.values()) keepTalk(r.talk); });
document.addEventListener("visibilitychange", look);
setInterval(look, LOOK_MS);
look();
