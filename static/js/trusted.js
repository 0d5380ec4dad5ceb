// What may become HTML (Trusted Types): the answers that htmx reads, and those only when nothing in them could run.
(() => {
  if (!window.trustedTypes) return;
  // Both read into a document that runs nothing; what is read moves into the page afterwards.
  const READERS = ["Document parseHTMLUnsafe", "DOMParser parseFromString"];
  const FORBIDDEN = "script, iframe, frame, object, embed, base, link, meta, style, animate, set, [srcdoc]";
  const RUNS = /^on|^(data-)?hx-on/i;
  const ADDRESSES = ["href", "xlink:href", "action", "formaction"];
  const WHOLE = /^\s*(<!doctype[^>]*>\s*)?<html[\s>]/i;
  const LEADS = ["http:", "https:", "mailto:"];

  // Stays in here: whoever has it could make any text HTML.
  const reader = trustedTypes.createPolicy("keyadmin-reader", { createHTML: (text) => text });

  const leadsElsewhere = (address) => {
    try {
      return !LEADS.includes(new URL(address, location.href).protocol);
    } catch {
      return true;
    }
  };
  const runs = (element) =>
    [...element.attributes].some(({ name, value }) => RUNS.test(name) || (ADDRESSES.includes(name) && leadsElsewhere(value)))
    || (element instanceof HTMLTemplateElement && holdsWhatRuns(element.content));
  const holdsWhatRuns = (root) => root.querySelector(FORBIDDEN) !== null || [...root.querySelectorAll("*")].some(runs);

  trustedTypes.createPolicy("default", {
    createHTML: (text, _type, sink) => {
      if (!READERS.includes(sink)) return null;
      const read = new DOMParser().parseFromString(reader.createHTML(text), "text/html");
      // Of a whole page htmx takes the body alone.
      const taken = WHOLE.test(text) ? read.body : read.documentElement;
      return runs(read.body) || holdsWhatRuns(taken) ? null : text;
    },
  });
})();
