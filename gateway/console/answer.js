// The answer to a request: labels with bars where there are any, and tensors, folded.

import { element } from "./api.js";
import { duration } from "./figures.js";
import { entry, parse, shapeOf } from "./values.js";

const MAX_BARS = 5, MAX_LABELS = 10, MAX_ROWS = 4, MAX_TEXT = 20000, MAX_CLASSES = 100000;

/**
 * Show an answer of /predict, as its text. Returns one line that says the same, for screen readers.
 * hasClasses: whether rows of an output are scores even if they are no probabilities and have no labels.
 */
export function drawAnswer(parent, text, seconds, labels, hasClasses = false) {
  const answer = parse(text);
  const parts = [];
  const summary = [];
  if (answer.predictions) {
    const images = Array.isArray(answer.predictions[0]) ? answer.predictions : [answer.predictions];
    for (const image of images) {
      const shown = image.slice(0, MAX_LABELS).map(({ label, index, score }) => ({ name: label || `class ${index}`, score: Number(score) }));
      parts.push(bars(shown, `${answer.model}`));
      summary.push(best(shown));
    }
  }
  for (const [name, value] of Object.entries(answer.outputs ?? {})) {
    const shape = shapeOf(value);
    const names = entry(labels, name);
    const rows = classRows(value, shape, hasClasses || names?.length);
    const body = [];
    for (const row of rows.slice(0, MAX_ROWS)) {
      const shown = top(row, names);
      body.push(bars(shown, name));
      summary.push(best(shown));
    }
    if (rows.length > MAX_ROWS) body.push(element("p", { class: "quiet" }, `and ${rows.length - MAX_ROWS} more rows`));
    if (!rows.length) summary.push(`${name} of shape ${JSON.stringify(shape)}`);
    parts.push(element("div", { class: "output" },
      element("h4", {}, name, element("span", { class: "quiet" }, ` [${shape.join(", ")}]`)),
      ...body,
      folded("Values", written(value), !rows.length && shape.reduce((a, b) => a * b, 1) <= 64, `Values of ${name}`)));
  }
  parts.push(folded("The answer as the server sent it", text.length > MAX_TEXT ? `${text.slice(0, MAX_TEXT)} … and ${text.length - MAX_TEXT} more characters` : text));
  parent.replaceChildren(
    element("p", {}, `Version ${answer.version} answered in `, element("strong", {}, duration(seconds)), element("span", { class: "quiet" }, ", measured by the browser")),
    ...parts);
  return `${summary.join("; ")}; answered in ${duration(seconds)}`;
}

/** Show an error in the server's words. */
export function drawError(parent, error) {
  parent.replaceChildren(element("p", { class: "note error" }, element("strong", {}, error.status ? `${error.status} ` : "Error "), error.message));
}

/** The rows of scores in an output: those with labels, or whose values are probabilities; [] if it has others. */
function classRows(value, shape, hasClasses) {
  const classes = shape.at(-1) ?? 0;
  if (!shape.length || classes < 2 || classes > MAX_CLASSES || shape.slice(1, -1).some((size) => size !== 1)) return [];
  const flat = [value].flat(Infinity).map(Number);
  const rows = Array.from({ length: flat.length / classes }, (_, i) => flat.slice(i * classes, (i + 1) * classes));
  const isSoftmax = (row) => row.every((score) => score >= 0 && score <= 1.0001) && Math.abs(row.reduce((a, b) => a + b, 0) - 1) < 0.01;
  return hasClasses || rows.every(isSoftmax) ? rows : [];
}

function top(row, labels) {
  const order = row.map((score, index) => ({ name: labels?.[index] || `class ${index}`, score }));
  return order.sort((a, b) => b.score - a.score || 0).slice(0, MAX_BARS);
}

const best = (shown) => (shown.length ? `${shown[0].name}, score ${score(shown[0].score)}` : "no label");
const score = (value) => (Math.abs(value) >= 0.001 || value === 0 ? String(Number(value.toFixed(4))) : value.toExponential(1));

/** Bars from 0 to 1 for probabilities; otherwise, from the lowest to the highest of the shown scores. */
function bars(shown, title) {
  const scores = shown.map((each) => each.score).filter(Number.isFinite);
  const isShare = scores.every((value) => value >= 0 && value <= 1.0001);
  const low = isShare ? 0 : Math.min(...scores), high = isShare ? 1 : Math.max(...scores);
  const width = (value) => (high > low ? Math.max(1, (100 * (value - low)) / (high - low)) : 100);
  return element("ol", { class: "bars", "aria-label": `Labels of ${title}, best first` }, ...shown.map(({ name, score: value }) => {
    const bar = element("span", { class: "bar", "aria-hidden": "true" });
    bar.style.setProperty("--width", `${width(value)}%`);
    return element("li", {}, element("span", { class: "label" }, name), bar, element("span", { class: "number" }, score(value)));
  }));
}

function folded(title, text, open = false, label = title) {
  return element("details", { open }, element("summary", {}, title), element("pre", { tabindex: 0, role: "region", "aria-label": label }, text));
}

/** Nested lists with a line for each innermost list. */
function written(value) {
  const text = JSON.stringify(value, (_, part) => part).replaceAll("],[", "],\n[").replaceAll(",", ", ");
  return text.length > MAX_TEXT ? `${text.slice(0, MAX_TEXT)} … and ${text.length - MAX_TEXT} more characters` : text;
}
