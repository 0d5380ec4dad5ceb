// Copy the text of what data-copy points at, and say so in the button.
(() => {
  document.addEventListener("click", async (event) => {
    const button = event.target.closest?.("[data-copy]");
    if (!button) return;
    const source = document.querySelector(button.dataset.copy);
    const words = button.querySelector("span");
    try {
      await navigator.clipboard.writeText(source.value ?? source.textContent);
      words.textContent = "Copied";
    } catch {
      // Without a secure context there is no clipboard: select it, so that one keystroke copies.
      if (source.select) source.select();
      else getSelection().selectAllChildren(source);
      words.textContent = "Press Ctrl+C";
    }
    setTimeout(() => { words.textContent = "Copy"; }, 2500);
  });

  document.addEventListener("focusin", (event) => {
    if (event.target.matches?.("[data-select]")) event.target.select();
  });
})();
