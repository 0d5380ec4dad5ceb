// A dialog partial opens in <dialog id="dialog">; without JavaScript the same link is a page.
(() => {
  const dialog = () => document.querySelector("dialog#dialog");
  let opener = null;

  document.addEventListener("htmx:beforeRequest", (event) => {
    if (event.detail.target === dialog() && !dialog().open) opener = document.activeElement;
  });

  document.addEventListener("htmx:beforeSwap", (event) => {
    const { target, xhr, pathInfo } = event.detail;
    if (target?.id !== "dialog") return;
    // A form in the dialog that was answered with a redirect has done its work: go where it points.
    const landed = xhr.responseURL && new URL(xhr.responseURL, location.href);
    const asked = new URL(pathInfo.finalRequestPath, location.href);
    if (landed && landed.pathname !== asked.pathname) {
      event.detail.shouldSwap = false;
      location.assign(landed.href);
    }
  });

  document.addEventListener("htmx:afterSwap", (event) => {
    const box = dialog();
    if (!box || event.detail.target !== box) return;
    if (!box.open) box.showModal();
    const first = box.querySelector("[data-focus], [autofocus], [data-confirm] [name='confirmation'], select, input:not([type='hidden']), textarea, .btn");
    first?.focus();
  });

  document.addEventListener("click", (event) => {
    const box = dialog();
    if (event.target.closest("[data-close]") && box?.contains(event.target)) {
      event.preventDefault();
      box.close();
    }
    // A click on the backdrop is a click on the dialog itself, outside its form.
    if (event.target.matches?.("dialog") && event.target.open) {
      const edge = event.target.getBoundingClientRect();
      const inside = event.clientX >= edge.left && event.clientX <= edge.right && event.clientY >= edge.top && event.clientY <= edge.bottom;
      if (!inside && event.detail) event.target.close();
    }
  });

  document.addEventListener("close", (event) => {
    if (event.target !== dialog()) return;
    event.target.replaceChildren();
    if (opener?.isConnected) opener.focus();
    opener = null;
  }, true);
})();
