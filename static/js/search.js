// The search stays in place while the list under it is replaced: keep the two saying the same.
(() => {
  document.addEventListener("htmx:afterSwap", (event) => {
    const list = document.querySelector(".list-parts[data-query]");
    const search = document.querySelector("[data-search]");
    if (!list || !search || !event.detail.target.matches(".list-parts, .list, body")) return;
    // Never under the reader's fingers, except for a pasted key, which must not stay anywhere.
    if (list.dataset.lookup || document.activeElement !== search) search.value = list.dataset.query;
  });
})();
