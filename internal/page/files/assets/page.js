// Says below each page whether it is live, and has commands copied by a click or by the keyboard. A page without this script
// is complete; it is as of the time below it, and a click on a command selects all of it.
"use strict";
const say = text => { const live = document.getElementById("live"); if (live) live.textContent = text; };
document.addEventListener("htmx:sse:after:connection", () => say("Live: this page follows what happens."));
for (const lost of ["htmx:sse:error", "htmx:sse:close"]) {
  document.addEventListener(lost, () => say("Not live: the server does not answer. The page is as of the time above."));
}

// A command becomes a button. What comes with a change of the page has to become one too; htmx leaves these attributes
// alone then (morphIgnore), so that a command keeps the focus.
const copies = "copies this command", copied = "copied";
const enable = () => {
  for (const other of document.querySelectorAll("code[role]:not(.type)")) {
    ["role", "tabindex", "aria-description"].forEach(name => other.removeAttribute(name));
  }
  for (const command of document.querySelectorAll("code.type:not([role])")) {
    command.setAttribute("role", "button");
    command.setAttribute("tabindex", "0");
    command.setAttribute("aria-description", copies);
  }
};
enable();
new MutationObserver(enable).observe(document.body, { subtree: true, childList: true, attributes: true, attributeFilter: ["class"] });

const copy = command => {
  getSelection().selectAllChildren(command);
  const isDone = document.execCommand("copy"); // the clipboard's own interface is there with https and on loopback alone
  if (!isDone) return;
  document.querySelectorAll("code.type[role]").forEach(one => one.setAttribute("aria-description", one === command ? copied : copies));
};
document.addEventListener("click", event => {
  const command = event.target.closest?.("code.type");
  if (command) copy(command);
});
document.addEventListener("keydown", event => {
  const isCommand = event.target.matches?.("code.type");
  if (!isCommand || (event.key !== "Enter" && event.key !== " ")) return;
  event.preventDefault(); // a blank would scroll
  copy(event.target);
});
