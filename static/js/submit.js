// A form is sent once: the second click does nothing, and coming back makes it usable again.
(() => {
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (event.defaultPrevented || form.method !== "post" || form.hasAttribute("hx-post")) return;
    if (form.dataset.sent) return event.preventDefault();
    form.dataset.sent = "yes";
    document.getElementById("progress")?.classList.add("busy");
    const button = event.submitter;
    // After the submit, so that the button's own name and value are still sent.
    setTimeout(() => { if (button) { button.disabled = true; button.setAttribute("aria-busy", "true"); } });
  });

  const restore = () => {
    document.getElementById("progress")?.classList.remove("busy");
    document.querySelectorAll("form[data-sent]").forEach((form) => { delete form.dataset.sent; });
    document.querySelectorAll("[aria-busy='true']").forEach((button) => { button.disabled = false; button.removeAttribute("aria-busy"); });
  };
  addEventListener("pageshow", (event) => { if (event.persisted) restore(); });

  const busy = (event, on) => {
    const form = event.detail.elt;
    if (!form.matches?.("form[data-once]")) return;
    const button = form.querySelector("[type='submit']");
    if (!button) return;
    button.disabled = on;
    if (on) button.setAttribute("aria-busy", "true");
    else button.removeAttribute("aria-busy");
  };
  document.addEventListener("htmx:beforeSend", (event) => busy(event, true));
  document.addEventListener("htmx:afterRequest", (event) => { if (!event.detail.successful) busy(event, false); });

  // A refused form begins with what is wrong.
  document.querySelector("main [data-focus]")?.focus();
})();
