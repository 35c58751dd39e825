// Programs in tabs, each with a button that copies it.

import { element } from "./api.js";

let chosen = 0;

/** parts: [{title, text, why}]. The chosen tab stays chosen when the texts change. */
export function drawTabs(parent, label, parts) {
  const tabs = parts.map(({ title }, i) => element("button", {
    type: "button", role: "tab", id: `tab-${i}`, "aria-controls": "tab-panel", onclick: () => choose(i), onkeydown: (event) => move(event, i),
  }, title));
  const panel = element("div", { role: "tabpanel", id: "tab-panel", class: "program" });
  const choose = (i) => {
    chosen = i;
    tabs.forEach((tab, j) => { tab.setAttribute("aria-selected", i === j); tab.tabIndex = i === j ? 0 : -1; });
    panel.setAttribute("aria-labelledby", `tab-${i}`);
    const { text, why } = parts[i];
    panel.replaceChildren(...(text === null ? [element("p", { class: "quiet" }, why)]
      : [copyButton(text), element("pre", { tabindex: 0, role: "region", "aria-label": parts[i].title }, text)]));
  };
  const move = (event, i) => {
    const to = { ArrowRight: i + 1, ArrowLeft: i - 1, Home: 0, End: parts.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const next = (to + parts.length) % parts.length;
    choose(next);
    tabs[next].focus();
  };
  parent.replaceChildren(element("div", { role: "tablist", "aria-label": label, class: "tabs" }, ...tabs), panel);
  choose(Math.min(chosen, parts.length - 1));
}

function copyButton(text) {
  const button = element("button", { type: "button", class: "plain copy", onclick: async () => {
    button.textContent = (await copy(text, button.nextElementSibling)) ? "Copied" : "Select and copy it";
  } }, "Copy");
  button.setAttribute("aria-live", "polite");
  return button;
}

/** The clipboard needs HTTPS or this machine; elsewhere, the text is selected for the old command. */
async function copy(text, shown) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    getSelection().selectAllChildren(shown);
    return document.execCommand("copy");
  }
}
