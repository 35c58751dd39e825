// The export of a model: its form, its progress, and what came of it.

import { element, json, request } from "./api.js";
import { bytes, duration } from "./figures.js";

const TARGETS = { tflite: "TFLite, for phones", tfjs: "TensorFlow.js, for browsers", web: "a web page that runs it", onnx: "ONNX, for other runtimes" };
const PRECISIONS = { "": "as it is", float16: "float16", dynamic: "8 bits, dynamic" };
const POLL_MS = 1000;

/** The form that exports a version, and the progress of its export. */
export function drawExport(parent, { name, version, signatures }) {
  const base = `/v2/models/${encodeURIComponent(name)}`;
  const select = (id, title, options) => element("label", {}, `${title} `, element("select", { id }, ...Object.entries(options).map(([value, text]) => element("option", { value }, text))));
  const progress = element("div", { class: "progress", role: "status" });
  const start = async (event) => {
    event.preventDefault();
    const value = (id) => parent.querySelector(`#${id}`)?.value;
    const options = { to: value("export-to") };
    if (value("export-precision")) options.quantize = value("export-precision");
    if (value("export-signature")) options.signature = value("export-signature");
    try {
      follow(await json(`${base}/versions/${version}/export`, { method: "POST", body: JSON.stringify(options), headers: { "Content-Type": "application/json" } }));
    } catch (error) {
      progress.replaceChildren(element("p", { class: "note error" }, error.message));
    }
  };
  const follow = async (job) => {
    const url = `${base}/export/${job.id}`;
    const cancel = element("button", { type: "button", class: "plain", onclick: () => request(url, { method: "DELETE" }).catch(() => {}) }, "Cancel");
    const bar = element("progress", { "aria-label": `Export ${job.id}` });
    const line = element("p", {});
    progress.replaceChildren(bar, line, cancel);
    const started = performance.now();
    try {
      while (job.state === "RUNNING") {
        line.textContent = `${job.progress.at(-1) ?? "starting"} (${Math.round((performance.now() - started) / 1000)} s)`;
        await new Promise((resolve) => setTimeout(resolve, POLL_MS));
        job = await json(url);
      }
      progress.replaceChildren(...finished(job, url));
    } catch (error) {
      progress.replaceChildren(element("p", { class: "note error" }, error.status === 404 ? "The export was cancelled." : error.message));
    }
  };
  const finished = (job, url) => {
    if (job.state !== "DONE") return [element("p", { class: "note error" }, job.error ?? `The export is ${job.state}.`), steps(job)];
    const save = async () => saveFile(`${name}.zip`, await (await request(`${url}/result`)).blob());
    return [
      ...summary(job.report),
      element("div", { class: "buttons" }, element("button", { type: "button", class: "main", onclick: save }, `Download ${name}.zip`)),
      steps(job),
      element("details", {}, element("summary", {}, "Report"), element("pre", { tabindex: 0, role: "region", "aria-label": "Report" }, JSON.stringify(job.report, null, 2))),
    ];
  };
  const steps = (job) => element("details", {}, element("summary", {}, "Steps"), element("pre", { tabindex: 0, role: "region", "aria-label": "Steps" }, job.progress.join("\n")));
  parent.replaceChildren(
    element("form", { class: "row", onsubmit: start },
      select("export-to", "To", TARGETS), select("export-precision", "Precision", PRECISIONS),
      signatures.length > 1 ? select("export-signature", "Signature", Object.fromEntries(signatures.map(({ name: each }) => [each, each]))) : null,
      element("button", { class: "main" }, "Export")),
    progress);
}

/** What the report says, for people: sizes, times, and how much each output differs. */
function summary({ original, exported, runs, notes, cases, origin }) {
  const side = ({ bytes: size, seconds }) => `${bytes(size)}, ${duration(seconds)} for a batch of one`;
  const rows = runs.flatMap(({ runner, differences }) => differences.map((each) => [runner, each.name, each.relative ? each.relative.toExponential(1) : "0", each.top1 === null ? "–" : `${Number((100 * each.top1).toFixed(2))} %`]));
  return [
    element("p", {}, `${exported.path}: ${side(exported)}. The original: ${side(original)}. They were compared on ${cases} inputs (${origin}).`),
    ...notes.map((note) => element("p", { class: "note" }, note)),
    element("div", { class: "table-frame", tabindex: 0, role: "region", "aria-label": "Differences" },
      element("table", {},
        element("thead", {}, element("tr", {}, ...["Runner", "Output", "Largest relative difference", "Same best class"].map((title) => element("th", { scope: "col" }, title)))),
        element("tbody", {}, ...rows.map((cells) => element("tr", {}, ...cells.map((cell) => element("td", {}, cell))))))),
  ];
}

/** Have the browser save a Blob. */
export function saveFile(name, blob) {
  const url = URL.createObjectURL(blob);
  element("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60000);
}
