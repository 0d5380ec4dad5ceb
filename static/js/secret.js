// A key that was shown leaves the page with the reader: nothing remains for Back to show, or to send again.
(() => {
  if (!document.querySelector("[data-secret]")) return;
  addEventListener("pagehide", () => document.querySelectorAll("[data-secret]").forEach((part) => part.remove()));
  // This page is the answer to a form: the next one takes its place in the history.
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[href]:not([target])");
    if (!link || event.defaultPrevented || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    if (link.origin !== location.origin || link.hash) return;
    event.preventDefault();
    location.replace(link.href);
  });
})();
