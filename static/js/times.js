// Times: the reader's own zone beside UTC, and relative words that stay true while the page is open.
(() => {
  const units = [[63072000, 31536000, "y"], [172800, 86400, "d"], [3600, 3600, "h"], [60, 60, "min"], [0, 1, "s"]];
  const local = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });

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
  const localize = (root) => root.querySelectorAll("time[data-local]").forEach((time) => {
    time.title = `${time.title}\n${local.format(new Date(time.dateTime))}`;
    time.removeAttribute("data-local");
  });

  document.addEventListener("htmx:afterSettle", () => localize(document));
  localize(document);
  setInterval(() => { if (!document.hidden) refresh(); }, 10000);
  document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
})();
