// The signatures of a model: inputs and outputs with datatypes and shapes, class labels, and how images are prepared.

import { element } from "./api.js";
import { entry } from "./values.js";

/** A shape as text; the dimension that counts rows is named. */
export function shapeText(shape, batchDim) {
  if (!shape) return "unknown";
  return `[${shape.map((size, i) => (size !== -1 ? size : i === batchDim ? "rows" : "any")).join(", ")}]`;
}

export function drawSignatures(parent, { signatures, batch_dim, class_labels, preprocess, postprocess }) {
  parent.replaceChildren(
    ...signatures.map((signature, i) => element("div", { class: "signature" },
      signatures.length > 1 ? element("h3", {}, element("code", {}, signature.name), i ? null : element("span", { class: "quiet" }, " default")) : null,
      table(signature, batch_dim, class_labels, signatures.length > 1 ? ` of ${signature.name}` : ""))),
    preprocess ? imageFacts(preprocess, postprocess) : "",
  );
}

function table({ inputs, outputs, refused, json = [] }, batchDim, labels, ofWhat) {
  const unlisted = [...json, ...Object.keys(refused)].filter((name) => !outputs.some((spec) => spec.name === name));
  const rows = [
    ...inputs.map((spec) => [spec.optional ? "optional input" : "input", spec]),
    ...[...outputs, ...unlisted.map((name) => ({ name, shape: null }))].map((spec) => ["output", spec]),
  ];
  return element("div", { class: "table-frame", tabindex: 0, role: "region", "aria-label": `Table of inputs and outputs${ofWhat}` },
    element("table", {},
      element("thead", {}, element("tr", {}, ...["Kind", "Name", "Datatype", "Shape", "Labels"].map((title) => element("th", { scope: "col" }, title)))),
      element("tbody", {}, ...rows.map(([kind, spec]) => element("tr", {},
        element("td", { class: "quiet" }, kind),
        element("th", { scope: "row" }, element("code", {}, spec.name), reason(entry(refused, spec.name))),
        element("td", {}, spec.datatype || (json.includes(spec.name) ? "JSON" : "unknown")),
        element("td", {}, json.includes(spec.name) ? "" : element("code", {}, shapeText(spec.shape, spec.has_rows === false ? null : batchDim))),
        element("td", {}, kind === "output" ? labelList(entry(labels, spec.name)) : ""))))));
}

const reason = (text) => (text ? element("span", { class: "reason" }, `cannot be served: ${text}`) : null);

function labelList(labels) {
  if (!labels?.length) return "";
  if (labels.length <= 12) return labels.join(", ");
  return element("details", {}, element("summary", {}, `${labels.length} labels`), element("p", { class: "labels" }, labels.join(", ")));
}

function imageFacts(preprocess, postprocess) {
  const [height, width] = preprocess.size;
  const channels = { RGB: "color", BGR: "color, in the order BGR", GRAY: "gray" }[preprocess.color];
  const steps = [
    `${preprocess.resize === "stretch" ? "stretched" : preprocess.resize === "crop" ? "scaled and cropped" : "scaled and padded"} to ${height} × ${width}`,
    channels, preprocess.invert ? "inverted" : "", `(v × ${digits(preprocess.scale)} − ${list(preprocess.mean)}) / ${list(preprocess.std)}`, preprocess.layout,
  ];
  return element("p", {},
    "Accepts images: ", steps.filter(Boolean).join(", "), ". ",
    postprocess ? `Answers with the ${postprocess.top_k} best labels${postprocess.softmax ? ", after a softmax" : ""}.` : "");
}

const digits = (value) => String(Number(value.toPrecision(4)));
const list = (values) => (new Set(values).size === 1 ? digits(values[0]) : `[${values.map(digits).join(", ")}]`);
