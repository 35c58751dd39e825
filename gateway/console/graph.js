// The page of a model's graph. The viewer runs in a frame (graph_viewer.js), because Netron's style sheet is for a page
// of its own.

import { ApiError, askForKey, drawHeader, element, json, say } from "/console/files/api.js";

const [, model, version = ""] = location.pathname.match(/^\/console\/models\/([^/]+)(?:\/versions\/([^/]+))?\/graph$/);
const path = `/console/models/${model}${version && `/versions/${version}`}`;
const frame = document.getElementById("frame");
const note = document.getElementById("note");

function fail(reason) {
  frame.replaceChildren();
  note.textContent = reason;
  note.hidden = false;
}

async function load() {
  note.hidden = true;
  say("");
  try {
    const artifact = await json(`${path}/artifact`);
    const name = `${artifact.name}, version ${artifact.version}`;
    document.title = `Graph of ${name} · modelport`;
    document.getElementById("title").textContent = `Graph of ${name}`;
    const query = new URLSearchParams({ model: artifact.name, version: artifact.version });
    frame.replaceChildren(element("iframe", { title: `Graph of ${name}`, src: `/console/netron/?${query}` }));
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    fail(error.message);
    if (error.status === 401) await askForKey(error.message);
  }
}

window.addEventListener("message", ({ origin, data }) => {
  if (origin !== location.origin) return;
  if (data.graph === "failed") fail(data.reason);
  document.body.dataset.graph = data.graph;
});
const link = document.getElementById("model");
link.href = path;
link.hidden = false;
drawHeader();
document.addEventListener("modelport-key", load);
load();
