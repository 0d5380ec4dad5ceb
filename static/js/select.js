// Selecting several rows: how many, all of them, and no buttons when there is none.
(() => {
  const update = () => {
    const form = document.querySelector("[data-selection]");
    if (!form) return;
    const boxes = [...document.querySelectorAll("input[form='bulk'][type='checkbox']")];
    const count = boxes.filter((box) => box.checked).length;
    form.querySelector("output").textContent = count ? `${count} selected` : "";
    form.querySelectorAll("button").forEach((button) => { button.hidden = !count; });
    const all = document.querySelector("[data-select-all]");
    if (all) {
      all.checked = count > 0 && count === boxes.length;
      all.indeterminate = count > 0 && count < boxes.length;
      all.disabled = !boxes.length;
    }
  };

  document.addEventListener("change", (event) => {
    if (event.target.matches?.("[data-select-all]")) {
      document.querySelectorAll("input[form='bulk'][type='checkbox']").forEach((box) => { box.checked = event.target.checked; });
    }
    if (event.target.matches?.("[data-select-all], input[form='bulk']")) update();
  });
  document.addEventListener("htmx:afterSettle", update);
  addEventListener("pageshow", update);
  update();
})();
