// What changes a model: load, unload and export. The page shows only what the caller's role permits.

import { element, json, request } from "./api.js";

const TARGETS = { tflite: "TFLite, for phones", tfjs: "TensorFlow.js, for browsers", web: "a web page that runs it", onnx: "ONNX, for other runtimes" };
const PRECISIONS = { "": "as it is", float16: "float16", dynamic: "8 bits, dynamic" };
const POLL_MS = 1000;

/** Buttons that load and unload the model. `say` shows the outcome; `refresh` reads the state again. */
export function drawControls(parent, model, state, { say, refresh }) {
  const act = async (verb, done) => {
    say(`${done.slice(0, -2)}ing ${model} …`.replace("eing", "ing"));
    parent.querySelectorAll("button").forEach((button) => { button.disabled = true; });
    try {
      await request(`/v2/repository/models/${encodeURIComponent(model)}/${verb}`, { method: "POST" });
      say(`${model} is ${done}`);
    } catch (error) {
      say(error.message, true);
    }
    parent.querySelectorAll("button").forEach((button) => { button.disabled = false; });
    refresh();
  };
  const isServed = state !== "UNAVAILABLE";
  const unload = async () => {
    const sure = await confirm(`Unload ${model}?`, "All its versions stop serving. Requests in progress are answered, later ones are refused, until it is loaded again or the server starts again.", "Unload");
    if (sure) act("unload", "unloaded");
  };
  parent.replaceChildren(
    element("button", { type: "button", class: "plain", onclick: () => act("load", "loaded") }, isServed ? "Reload" : "Load"),
    isServed ? element("button", { type: "button", class: "plain danger", onclick: unload }, "Unload") : "");
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
      element("p", {}, "Converted, and verified against the original. "),
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

/** Have the browser save a Blob. */
export function saveFile(name, blob) {
  const url = URL.createObjectURL(blob);
  element("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60000);
}
