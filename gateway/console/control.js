// What changes a model: load and unload. The page shows only what the caller's role permits.

import { element, request } from "./api.js";

/** Buttons that load and unload the model. `say` shows the outcome; `refresh` reads the state again. */
export function drawControls(parent, model, state, { say, refresh }) {
  const hasFocus = () => parent.contains(document.activeElement);
  const focus = () => parent.querySelector("button")?.focus(); // a button that is disabled or replaced loses it
  const act = async (verb) => {
    const isByKeyboard = hasFocus();
    say(`${verb}ing ${model} …`);
    parent.querySelectorAll("button").forEach((button) => { button.disabled = true; });
    try {
      await request(`/v2/repository/models/${encodeURIComponent(model)}/${verb}`, { method: "POST" });
      say(`${model} is ${verb}ed`);
    } catch (error) {
      say(error.message, true);
    }
    parent.querySelectorAll("button").forEach((button) => { button.disabled = false; });
    if (isByKeyboard && document.activeElement === document.body) focus();
    refresh();
  };
  const isServed = state !== "UNAVAILABLE";
  const unload = async () => {
    const sure = await confirm(`Unload ${model}?`, "All its versions stop serving. Requests in progress are answered, later ones are refused, until it is loaded again or the server starts again.", "Unload");
    if (sure) act("unload");
  };
  const isReplaced = hasFocus();
  parent.replaceChildren(
    element("button", { type: "button", class: "plain", onclick: () => act("load") }, isServed ? "Reload" : "Load"),
    isServed ? element("button", { type: "button", class: "plain danger", onclick: unload }, "Unload") : "");
  if (isReplaced) focus();
}

/** Ask whether to do something. Resolves to true or false. */
function confirm(title, text, verb) {
  return new Promise((resolve) => {
    const dialog = element("dialog", { "aria-labelledby": "confirm-title", "aria-describedby": "confirm-text" },
      element("form", { method: "dialog" },
        element("h2", { id: "confirm-title" }, title), element("p", { id: "confirm-text" }, text),
        element("div", { class: "actions" },
          element("button", { class: "plain", value: "no" }, "Cancel"), element("button", { class: "main danger", value: "yes" }, verb))));
    dialog.addEventListener("close", () => { dialog.remove(); resolve(dialog.returnValue === "yes"); });
    document.body.append(dialog);
    dialog.showModal();
  });
}
