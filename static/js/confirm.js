// The button that cannot be undone waits for the typed name; the server asks for it too.
(() => {
  const apply = (form) => {
    const typed = form.querySelector("[name='confirmation']");
    const button = form.querySelector("[type='submit']");
    if (typed && button) button.disabled = typed.value.trim() !== form.dataset.confirm.trim();
  };
  const all = (root) => root.querySelectorAll("form[data-confirm]").forEach(apply);

  document.addEventListener("input", (event) => {
    const form = event.target.closest?.("form[data-confirm]");
    if (form) apply(form);
  });
  document.addEventListener("htmx:afterSwap", (event) => all(event.detail.target));
  addEventListener("pageshow", () => all(document));
  all(document);
})();
