// Charts by pointer and by arrow keys: the figures of one step, taken from the table behind the chart, beside it.
(() => {
  const NS = "http://www.w3.org/2000/svg";

  const swatch = (outcome) => {
    const svg = document.createElementNS(NS, "svg");
    svg.setAttribute("viewBox", "0 0 10 10");
    const box = svg.appendChild(document.createElementNS(NS, "rect"));
    box.setAttribute("class", `o-${outcome}`);
    box.setAttribute("width", "10");
    box.setAttribute("height", "10");
    return svg;
  };

  const line = (tag, ...parts) => {
    const element = document.createElement(tag);
    element.append(...parts);
    return element;
  };

  // A table with outcomes gives a line for each that happened; a chart without one has its words in the hit.
  const lines = (figure, at, words) => {
    const outcomes = [...figure.querySelectorAll("thead [data-outcome]")];
    if (!outcomes.length) return [line("b", words)];
    const row = figure.querySelectorAll("tbody tr")[at];
    const [head, ...notes] = [...row.querySelector("th").childNodes].map((node) => node.textContent);
    const counts = outcomes.map((outcome, place) => [outcome, row.cells[place + 1].textContent]).filter(([, count]) => count !== "0");
    return [
      line("b", head),
      ...counts.map(([outcome, count]) => line("span", swatch(outcome.dataset.outcome), outcome.textContent, line("i", count))).reverse(),
      ...(counts.length ? [] : [line("span", "no requests")]),
      ...notes.map((note) => line("em", note)),
    ];
  };

  const enhance = (chart) => {
    const figure = chart.closest("[data-figure]");
    const tip = figure.querySelector("[data-tip]");
    const readout = figure.querySelector("[data-readout]");
    const hits = [...chart.querySelectorAll(".chart-hit")];
    const words = hits.map((hit) => hit.querySelector("title").textContent);
    const across = Number(chart.dataset.across) || hits.length;
    let at = -1;

    const show = (next, aloud) => {
      hits[at]?.classList.remove("on");
      at = next;
      tip.hidden = at < 0;
      if (at < 0) return;
      hits[at].classList.add("on");
      tip.replaceChildren(...lines(figure, at, words[at]));
      // Its own width to the left as far as it stands to the right: it never leaves the chart.
      const part = across > 1 ? (at % across) / (across - 1) * 100 : 50;
      tip.style.insetInlineStart = `${part}%`;
      tip.style.translate = `${-part}% 0`;
      if (aloud) readout.textContent = words[at];
    };

    // The browser's own tooltip would stand over ours.
    hits.forEach((hit) => hit.querySelector("title").remove());
    chart.setAttribute("tabindex", "0");
    const over = (event) => show(hits.indexOf(event.target.closest(".chart-hit")));
    chart.addEventListener("pointermove", over);
    chart.addEventListener("pointerdown", over);
    chart.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") show(-1); });
    chart.addEventListener("focus", () => { if (at < 0 && chart.matches(":focus-visible")) show(hits.length - 1, true); });
    chart.addEventListener("blur", () => show(-1));
    chart.addEventListener("keydown", (event) => {
      if (event.key === "Escape") return show(-1);
      const steps = { ArrowLeft: -1, ArrowRight: 1, Home: -hits.length, End: hits.length };
      if (across < hits.length) Object.assign(steps, { ArrowUp: -across, ArrowDown: across });
      const step = steps[event.key];
      if (!step || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      show(Math.min(Math.max((at < 0 ? hits.length : at) + step, 0), hits.length - 1), true);
    });
  };

  const prepare = () => document.querySelectorAll("[data-chart]:not([tabindex])").forEach(enhance);
  document.addEventListener("htmx:afterSettle", prepare);
  prepare();
})();
