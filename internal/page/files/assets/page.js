// Says below each page whether it is live. A page without this script is complete; it is as of the time below it.
"use strict";
const say = text => { document.getElementById("live").textContent = text; };
document.addEventListener("htmx:sse:after:connection", () => say("Live: this page follows what happens."));
for (const lost of ["htmx:sse:error", "htmx:sse:close"]) {
  document.addEventListener(lost, () => say("Not live: the server does not answer. The page is as of the time above."));
}
