// A request of a part of the page that failed says so and offers to try again.
(() => {
  const box = document.getElementById("failure");
  const home = box.parentElement;
  let again = null;

  const hide = () => { box.hidden = true; home.append(box); again = null; };
  const show = (words, event) => {
    const element = event.detail.elt;
    const { verb, path } = event.detail.requestConfig ?? {};
    // What changes something is sent again by its own button only, so that nothing happens twice unasked.
    again = verb === "get" && element.isConnected
      ? () => htmx.ajax("GET", path, { source: element, target: event.detail.target }).catch(() => {})
      : null;
    box.querySelector("[data-words]").textContent = words;
    box.querySelector("[data-retry]").hidden = !again;
    // An open dialog makes everything outside of it inert.
    (document.querySelector("dialog[open]") ?? home).prepend(box);
    box.hidden = false;
  };

  document.addEventListener("htmx:sendError", (event) => show("The server could not be reached. Nothing has changed.", event));
  document.addEventListener("htmx:timeout", (event) => show("The server did not answer in time.", event));
  document.addEventListener("htmx:responseError", (event) => {
    const status = event.detail.xhr.status;
    if (event.detail.elt.matches("[data-poll]") && status === 404) return;
    if (status === 401) return location.reload();
    show({
      403: "You may not do this, or the page is too old: load it again.",
      404: "This is no longer there. Load the page again.",
      409: "Somebody changed this meanwhile. Load the page again.",
      429: "Too many requests. Wait a moment.",
      503: "The database does not answer. Nothing has changed.",
    }[status] ?? `The server answered with an error (${status}).`, event);
  });
  document.addEventListener("htmx:afterRequest", (event) => { if (event.detail.successful && !box.hidden) hide(); });
  box.addEventListener("click", (event) => {
    const retry = event.target.closest("[data-retry]") && again;
    if (event.target.closest("button")) hide();
    if (retry) retry();
  });
  document.addEventListener("close", (event) => { if (event.target.contains(box)) hide(); }, true);
})();
