// Relative words for times that stay true while the page is open.
(() => {
  const units = [[63072000, 31536000, "y"], [172800, 86400, "d"], [3600, 3600, "h"], [60, 60, "min"], [0, 1, "s"]];

  const words = (seconds) => {
    if (Math.abs(seconds) < 5) return "now";
    const [, unit, name] = units.find(([least]) => Math.abs(seconds) >= least);
    const span = `${Math.floor(Math.abs(seconds) / unit)} ${name}`;
    return seconds > 0 ? `${span} ago` : `in ${span}`;
  };

  const refresh = () => document.querySelectorAll("time[data-ago]").forEach((time) => {
    const said = words((Date.now() - Date.parse(time.dateTime)) / 1000);
    if (time.textContent !== said) time.textContent = said;
  });

  setInterval(() => { if (!document.hidden) refresh(); }, 10000);
  document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
})();
