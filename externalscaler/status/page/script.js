// Keeps the page current. The server sends the whole content; what is open, focused and scrolled
// stays as it is.
(() => {
  "use strict";
  const main = document.getElementById("main");
  const live = document.getElementById("live");
  const pause = document.getElementById("pause");
  let source = null;

  const say = (text) => { if (live.textContent !== text) live.textContent = text; };

  const show = (html) => {
    const next = new DOMParser().parseFromString("<main>" + html + "</main>", "text/html").querySelector("main");
    for (const open of main.querySelectorAll("details[open]")) {
      const same = next.querySelector("#" + CSS.escape(open.id));
      if (same) same.open = true;
    }
    const focused = document.activeElement;
    const stops = "a, summary, [tabindex]";
    const box = main.contains(focused) && focused !== main ? focused.closest("main [id]") : null;
    const place = box ? [...box.querySelectorAll(stops)].indexOf(focused) : -1;
    const scrolled = [...main.querySelectorAll(".scroll")].map((e) => e.scrollLeft);
    main.replaceChildren(...next.childNodes);
    main.querySelectorAll(".scroll").forEach((e, i) => { e.scrollLeft = scrolled[i] || 0; });
    const same = place >= 0 && document.getElementById(box.id);
    const again = same && same.querySelectorAll(stops)[place];
    if (again) again.focus({ preventScroll: true });
  };

  const start = () => {
    source = new EventSource("live");
    source.addEventListener("update", (event) => { show(event.data); say("Updating live."); });
    source.addEventListener("error", () => say("Not connected: trying again."));
    pause.textContent = "Pause updates";
  };
  const stop = () => { source.close(); source = null; say("Updates are paused."); pause.textContent = "Resume updates"; };

  // A link to a group opens it.
  const open = () => {
    const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (target && target.matches("details")) target.open = true;
  };

  pause.addEventListener("click", () => (source ? stop() : start()));
  window.addEventListener("hashchange", open);
  pause.hidden = false;
  open();
  start();
})();
