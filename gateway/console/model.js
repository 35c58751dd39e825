// The page of one model: its state and figures, the form to try it, its interface and configuration.

import { drawHeader, element, json, poll, say } from "./api.js";
import { drawConfiguration } from "./configuration.js";
import { drawControls } from "./control.js";
import { drawExport, saveFile } from "./export.js";
import { bytes } from "./figures.js";
import { Form } from "./form.js";
import { Live } from "./live.js";
import { drawSignatures } from "./signature.js";
import { programs } from "./snippets.js";
import { drawTabs } from "./tabs.js";

const [, , , encodedName, , wantedVersion] = location.pathname.split("/");
const decoded = (text) => { try { return decodeURIComponent(text); } catch { return text; } }; // a % of no escape
const name = decoded(encodedName);
const wanted = wantedVersion && decoded(wantedVersion);
const part = (id) => document.getElementById(id);
const live = new Live(part("charts"));
let shown = ""; // what the interface was read for
let controls = "";
let refresh = () => {};

const address = (version) => `/console/models/${encodeURIComponent(name)}${version ? `/versions/${version}` : ""}`;

/** The version that the page is about: by number or label; else the newest that is READY, else the newest. */
function select(versions) {
  const newestFirst = [...versions].sort((a, b) => Number(b.version) - Number(a.version));
  if (wanted) return newestFirst.find((each) => each.version === wanted || each.version_labels?.includes(wanted));
  return newestFirst.find(({ state }) => state === "READY") ?? newestFirst[0];
}

function draw(data) {
  part("server").textContent = `${data.server.name} ${data.server.version}`;
  const model = select(data.models);
  part("main").classList.toggle("absent", !model);
  part("absent").hidden = Boolean(model);
  if (!model) {
    part("absent").textContent = data.models.length ? `${name} has no version ${wanted}` : `there is no model ${name}, or you may not read about it`;
    if (data.models.length) drawVersions(data.models, null);
    return;
  }
  drawState(model);
  drawVersions(data.models, model);
  drawFacts(model);
  drawSteps(model.steps ?? []);
  live.update(model, data.server, data.buckets);
  drawActions(model, data.server);
  readInterface(model, data.server);
}

function drawState({ state, reason }) {
  const text = `${state} ${reason}`;
  if (part("state").dataset.text === text) return; // a live region: it must change only if the state does
  part("state").dataset.text = text;
  part("state").replaceChildren(element("span", { class: `state ${state}` }, state), reason ? ` ${reason}` : "");
}

function drawVersions(versions, current) {
  const text = JSON.stringify(versions.map(({ version, state, version_labels }) => [version, state, version_labels, version === current?.version]));
  if (part("versions").dataset.text === text) return;
  part("versions").dataset.text = text;
  part("versions").replaceChildren(...versions.filter(({ version }) => version).sort((a, b) => Number(b.version) - Number(a.version)).map((each) =>
    element("li", {}, element("a", { href: address(each.version), "aria-current": each === current ? "page" : null },
      `Version ${each.version}`, ...(each.version_labels ?? []).map((label) => element("span", { class: "tag" }, label)),
      versions.length > 1 ? element("span", { class: `state ${each.state}` }, each.state) : null))));
}

function drawFacts(model) {
  const facts = [
    ["Runtime", model.runtime || (model.steps?.length ? "pipeline" : "–")],
    ["Format", model.platform || "–"],
    ["Device", (model.devices ?? []).join(", ") || "–"],
    ["Workers", model.instances ? `${model.workers} of ${model.instances}` : "–"],
    ["Restarts", String(model.restarts ?? 0)],
    ["Memory", bytes(model.memory_bytes)],
    ["Largest batch", model.max_batch_size ? String(model.max_batch_size) : model.state === "READY" ? "off" : "–"],
    ["In progress", String(model.figures.in_flight)],
  ];
  part("facts").replaceChildren(...facts.map(([term, value]) => element("div", {}, element("dt", {}, term), element("dd", {}, value))));
}

/** The models that a pipeline runs, each with its state and a link to its page. */
function drawSteps(steps) {
  const text = JSON.stringify(steps);
  if (part("steps").dataset.text === text) return;
  part("steps").dataset.text = text;
  part("steps").hidden = !steps.length;
  part("steps").replaceChildren(element("h2", {}, "Steps"), element("ol", { class: "steps" }, ...steps.map((step) =>
    element("li", {},
      element("a", { href: `/console/models/${encodeURIComponent(step.model)}${step.version ? `/versions/${step.version}` : ""}` },
        `${step.model}${step.version ? ` version ${step.version}` : ""}`),
      " ", element("span", { class: `state ${step.state}` }, step.state),
      step.when ? element("span", { class: "tag" }, `when ${step.when}`) : null,
      step.reason ? element("span", { class: "reason" }, ` ${step.reason}`) : null))));
}

function drawActions(model, server) {
  const mayChange = model.may.includes("admin") && server.repository_control !== "none";
  const hasGraph = model.may.includes("admin") && Boolean(model.version && model.runtime); // Netron reads the model's files
  part("graph").hidden = !hasGraph;
  part("graph").href = `${address(model.version)}/graph`;
  const kind = `${mayChange} ${model.state}`;
  if (controls !== kind) {
    controls = kind;
    if (mayChange) drawControls(part("controls"), name, model.state, { say: sayOutcome, refresh });
    else part("controls").replaceChildren();
  }
}

function sayOutcome(message, isError = false) {
  part("outcome").className = isError ? "note error" : "note";
  part("outcome").textContent = message;
}

/** Read and draw what depends on how the version was loaded: for each of its states, and after each answer. */
async function readInterface(model, server) {
  const id = `${model.version} ${model.state} ${model.may}`;
  if (shown === id) return;
  shown = id;
  let found;
  const isServed = model.version && model.runtime !== undefined; // else it is unloaded: its state says so
  try {
    found = isServed && await json(`/console/models/${encodeURIComponent(name)}/versions/${model.version}/configuration`);
  } catch (error) {
    if (shown === id) shown = ""; // it was unloaded meanwhile; the next turn shows that
    say(error.message);
  }
  if (shown && shown !== id) return; // a later turn has read it for another state
  found ||= { signatures: [], values: [] };
  const isKnown = found.signatures.length > 0;
  const mayTry = isKnown && model.may.includes("infer");
  const mayExport = isKnown && server.exports && model.may.includes("admin") && !model.steps?.length; // a pipeline has no artifact
  part("interface").hidden = !isKnown;
  part("configuration").hidden = !found.values.length;
  part("try").hidden = !mayTry;
  part("export").hidden = !mayExport;
  if (isKnown) drawOnce("signatures", found, () => drawSignatures(part("signatures"), found));
  if (found.values.length) drawOnce("values", found.values, () => drawConfiguration(part("values"), found.values));
  // What was entered stays, even while the model is loaded again, and if an answer has shown what was not known.
  const names = found.signatures.map(({ name: each, inputs, outputs }) => [each, inputs.map((spec) => spec.name), outputs.map((spec) => spec.name)]);
  const { version, preprocess, class_labels } = found;
  if (mayTry) drawOnce("form", { version, names, preprocess, class_labels }, () => drawForm(found));
  if (mayExport) drawOnce("export-form", { version, names }, () => drawExport(part("export-form"), found));
}

const drawn = new Map();

/** Draw a part of the page, unless what it depends on is as before. */
function drawOnce(id, value, draw) {
  const text = JSON.stringify(value);
  if (drawn.get(id) !== text) draw();
  drawn.set(id, text);
}

function drawForm(found) {
  const form = element("form", { id: "form" });
  part("form").replaceWith(form);
  part("answer").replaceChildren(element("p", { class: "quiet" }, "The answer will be here."));
  const onAnswer = () => { shown = ""; };
  new Form(found, { form, answer: part("answer"), spoken: part("spoken") }, { onRequest: drawPrograms, onAnswer });
}

function drawPrograms(request, body) {
  if (request instanceof Error) {
    part("programs").replaceChildren(element("p", { class: "quiet" }, `To see the request, ${request.message}.`));
    part("file").replaceChildren();
    return;
  }
  drawTabs(part("programs"), "Programs", programs(request));
  const { file } = request;
  part("file").replaceChildren(...(file ? ["These programs read ", element("code", {}, file.name), " from the current folder. ",
    element("button", { type: "button", class: "plain", onclick: () => saveFile(file.name, body) }, "Save it")] : []));
}

drawHeader();
document.title = `${name} · modelport`;
part("title").textContent = name;
refresh = poll(() => json(`/console/data?model=${encodeURIComponent(name)}`), draw);
