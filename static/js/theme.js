// Light, dark or as the system says; a cookie, so that the server draws the next page right at once.
(() => {
  const root = document.documentElement;
  root.classList.add("js");
  const show = () => document.querySelectorAll("[data-theme-set]").forEach((button) => {
    button.setAttribute("aria-pressed", String(button.dataset.themeSet === (root.dataset.theme ?? "system")));
  });

  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("[data-theme-set]");
    if (!button) return;
    const theme = button.dataset.themeSet;
    const secure = location.protocol === "https:" ? "; secure" : "";
    if (theme === "system") delete root.dataset.theme;
    else root.dataset.theme = theme;
    document.cookie = `theme=${theme}; path=/; max-age=${theme === "system" ? 0 : 31536000}; samesite=lax${secure}`;
    show();
  });
  show();
})();
