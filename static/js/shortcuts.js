// Keys for those who stay on the keyboard: search, walk the rows, open, select, and the list of all this.
(() => {
  const rows = () => [...document.querySelectorAll("[data-walk] [data-open]")];
  const list = () => document.getElementById("shortcuts");

  const walk = (step) => {
    const links = rows();
    if (!links.length) return false;
    const now = links.indexOf(document.activeElement?.closest("tr")?.querySelector("[data-open]"));
    const next = links[now < 0 ? (step > 0 ? 0 : links.length - 1) : Math.min(Math.max(now + step, 0), links.length - 1)];
    next.focus();
    next.closest("tr").scrollIntoView({ block: "nearest" });
    return true;
  };

  const acts = {
    "/": () => {
      const search = document.querySelector("[data-search]");
      search?.focus();
      search?.select();
      return Boolean(search);
    },
    "?": () => { list().showModal(); return true; },
    j: () => walk(1),
    k: () => walk(-1),
    ArrowDown: () => document.activeElement?.closest("[data-walk]") && walk(1),
    ArrowUp: () => document.activeElement?.closest("[data-walk]") && walk(-1),
    x: () => {
      const box = document.activeElement?.closest("[data-walk] tr")?.querySelector("[type='checkbox']");
      box?.click();
      return Boolean(box);
    },
  };

  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") document.querySelectorAll("details.pop[open], details.filters[open]").forEach((menu) => {
      menu.open = false;
      if (menu.contains(document.activeElement)) menu.querySelector("summary").focus();
    });
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if (event.target.matches?.("[data-search]") && event.key === "ArrowDown" && walk(1)) return event.preventDefault();
    if (event.target.matches?.("input:not([type='checkbox']), textarea, select, [contenteditable]")) return;
    if (document.querySelector("dialog[open]")) return;
    if (Object.hasOwn(acts, event.key) && acts[event.key]()) event.preventDefault();
  });

  document.addEventListener("click", (event) => {
    if (event.target.closest?.("[data-shortcuts]")) list().showModal();
    document.querySelectorAll("details.pop[open], details.filters[open]").forEach((menu) => {
      if (!menu.contains(event.target)) menu.open = false;
    });
    // The whole row opens its key, unless something in it was meant or text was being selected.
    const row = event.target.closest?.("[data-walk] tbody tr");
    if (row && !event.target.closest("a, button, input, label, .c-pick") && getSelection().isCollapsed) {
      row.querySelector("[data-open]")?.dispatchEvent(new MouseEvent("click", { bubbles: true, cancelable: true, ctrlKey: event.ctrlKey, metaKey: event.metaKey }));
    }
  });
})();
