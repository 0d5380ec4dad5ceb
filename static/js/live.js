// A list that follows what happens stops while the reader wants it to.
(() => {
  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("[data-live-toggle]");
    if (!button) return;
    const box = button.closest("[data-live]");
    const on = box.dataset.live === "off";
    box.dataset.live = on ? "on" : "off";
    button.textContent = on ? "Pause" : "Resume";
    box.querySelector("[data-live-words]").textContent = on ? "Live" : "Paused";
    const list = box.querySelector("[data-poll]");
    if (on && list) htmx.trigger(list, "load-now");
  });
})();
