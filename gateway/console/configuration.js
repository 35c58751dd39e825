// The configuration in force, with the source of each value.

import { element } from "./api.js";

const MEANING = {
  default: "what modelport does if nothing is set",
  setting: "a setting of this server: a flag, a variable or modelport.toml",
  "model.toml": "a file in the model's folder",
  "config.pbtxt": "a file in the model's folder, as for Triton",
  "models.config": "the server's list of models, as for TensorFlow Serving",
  "load request": "brought by the request that loaded the model, in place of its files",
  artifact: "read from the model's own files",
  "run time": "found out by running the model, or computed when it was loaded",
};

let showsDefaults = false;

export function drawConfiguration(parent, values) {
  const box = element("input", { type: "checkbox", onchange: () => {
    showsDefaults = box.checked;
    drawConfiguration(parent, values);
    parent.querySelector("input").focus();
  } });
  box.checked = showsDefaults;
  const shown = values.filter(({ source }) => showsDefaults || source !== "default");
  const sources = [...new Set(shown.map(({ source }) => source))];
  parent.replaceChildren(
    element("label", { class: "check" }, box, ` Show the ${values.filter(({ source }) => source === "default").length} defaults as well`),
    element("div", { class: "table-frame", tabindex: 0, role: "region", "aria-label": "Configuration" },
      // On a phone, a row is drawn as a block; the roles keep it a row for screen readers.
      element("table", { class: "configuration", role: "table" },
        element("thead", { role: "rowgroup" }, element("tr", { role: "row" }, ...["Key", "Value", "From"].map((title) => element("th", { scope: "col", role: "columnheader" }, title)))),
        element("tbody", { role: "rowgroup" }, ...shown.map(({ key, value, source, note }) => element("tr", { role: "row" },
          element("th", { scope: "row", role: "rowheader" }, element("code", {}, key)),
          element("td", { role: "cell" }, element("code", {}, text(value, key.endsWith(".shape"))), note ? element("span", { class: "reason" }, note) : null),
          element("td", { role: "cell" }, element("span", { class: "source" }, source))))))),
    element("dl", { class: "legend" }, ...sources.flatMap((source) => [element("dt", {}, source), element("dd", {}, MEANING[source])])));
}

function text(value, isShape) {
  if (value === null || value === "") return "–";
  if (Array.isArray(value)) return value.length || isShape ? JSON.stringify(value).replaceAll(",", ", ") : "–";
  if (typeof value === "object") return Object.keys(value).length ? Object.entries(value).map(([key, each]) => `${key} = ${JSON.stringify(each)}`).join(", ") : "–";
  return String(value);
}
