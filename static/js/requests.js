// What every htmx request does here: no empty filters in URLs, no polling of a page that nobody sees.
(() => {
  document.addEventListener("htmx:configRequest", (event) => {
    // What a page asks by itself keeps nobody signed in.
    if (event.detail.elt.matches("[data-poll]")) event.detail.headers["X-Poll"] = "1";
    if (event.detail.verb !== "get") return;
    const { parameters } = event.detail;
    for (const name of Object.keys(parameters)) if (parameters[name] === "") delete parameters[name];
  });
  document.addEventListener("htmx:beforeRequest", (event) => {
    const element = event.detail.elt;
    if (!element.matches("[data-poll]")) return;
    if (element.closest("[data-live='off']")) return event.preventDefault();
    // Nor under the reader's hands: a swap would take the selected text away.
    if (document.hidden || getSelection().containsNode(element, true) && !getSelection().isCollapsed || document.querySelector("dialog[open]")) event.preventDefault();
  });
  // A page that asked for a login in the meantime is a page, not a part of one.
  document.addEventListener("htmx:beforeSwap", (event) => {
    if (/^\s*<!doctype/i.test(event.detail.serverResponse)) {
      event.detail.shouldSwap = false;
      if (event.detail.xhr.status < 400) location.assign(event.detail.xhr.responseURL);
    }
  });
})();
