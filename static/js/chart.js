// The chart's bars by pointer and by arrow keys; the figures stand in a line below, and in a table.
(() => {
  const point = (chart, hit) => {
    chart.querySelectorAll(".on").forEach((other) => other.classList.remove("on"));
    hit?.classList.add("on");
    const readout = chart.closest(".body, section")?.querySelector(".readout");
    if (readout) readout.textContent = hit?.querySelector("title").textContent ?? "";
  };
  const prepare = () => document.querySelectorAll("[data-chart]:not([tabindex])").forEach((chart) => {
    const hits = [...chart.querySelectorAll(".chart-hit")];
    let at = hits.length;
    chart.setAttribute("tabindex", "0");
    chart.addEventListener("pointermove", (event) => point(chart, event.target.closest(".chart-hit")));
    chart.addEventListener("pointerleave", () => point(chart, null));
    chart.addEventListener("blur", () => point(chart, null));
    chart.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1, Home: -hits.length, End: hits.length }[event.key];
      if (!step || !hits.length) return;
      event.preventDefault();
      at = Math.min(Math.max(at + step, 0), hits.length - 1);
      point(chart, hits[at]);
    });
  });
  document.addEventListener("htmx:afterSettle", prepare);
  prepare();
})();
