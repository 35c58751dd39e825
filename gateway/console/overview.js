// The page of all models.

import { drawHeader, element, json, poll } from "/console/files/api.js";
import { Chart, sparkline } from "/console/files/charts.js";
import { bytes, duration, number, rates, sum } from "/console/files/figures.js";

const POINTS = 40;

// Each column: heading, the value by which it sorts, and what its cell contains.
const COLUMNS = [
  { title: "Model", sort: (row) => `${row.model.name} ${row.model.version.padStart(12)}`, cell: nameCell },
  { title: "State", sort: (row) => row.model.state, cell: stateCell },
  { title: "Runtime", sort: (row) => row.model.runtime || "", cell: ({ model }) => [model.runtime || "–"] },
  { title: "Device", sort: (row) => (row.model.devices || []).join(), cell: ({ model }) => [deviceText(model)] },
  { title: "Memory", number: true, sort: (row) => row.model.memory_bytes || 0, cell: ({ model }) => [bytes(model.memory_bytes)] },
  { title: "Requests/s", number: true, sort: (row) => row.now?.perSecond || 0, cell: ({ now }) => [number(now?.perSecond)] },
  { title: "Last minutes", cell: ({ history }) => [history.length > 1 ? sparkline(history) : "–"] },
  { title: "p50", number: true, sort: (row) => row.now?.p50 || 0, cell: ({ now }) => [duration(now?.p50)] },
  { title: "p99", number: true, sort: (row) => row.now?.p99 || 0, cell: ({ now }) => [duration(now?.p99)] },
  { title: "Queue", number: true, sort: (row) => row.now?.queued || 0, cell: ({ now }) => [number(now?.queued)] },
  { title: "Batch", number: true, sort: (row) => row.now?.batch || 0, cell: ({ now, model }) => [batchText(now, model)] },
];

const rows = new Map(); // "name/version" → {model, now, history, figures}
let sorted = { column: 0, up: true };
let last = null;
let charts = null;

function nameCell({ model }) {
  const path = `/console/models/${encodeURIComponent(model.name)}${model.version ? `/versions/${model.version}` : ""}`;
  return [element("a", { href: path }, model.name), model.version ? element("span", { class: "quiet" }, ` ${model.version}`) : null];
}

function stateCell({ model }) {
  const building = model.state === "LOADING" && /environment/.test(model.reason);
  return [
    element("span", { class: `state ${model.state}${building ? " building" : ""}` }, model.state),
    model.reason ? element("span", { class: "reason" }, model.reason) : null,
  ];
}

function deviceText(model) {
  const devices = (model.devices || []).join(", ") || "–";
  return model.instances > 1 ? `${devices} (${model.workers} of ${model.instances} workers)` : devices;
}

function batchText(now, model) {
  if (now?.batch) return number(now.batch);
  return model.max_batch_size === 0 && model.state === "READY" ? "off" : "–";
}

function drawHead() {
  const head = document.querySelector("#models thead tr");
  head.replaceChildren(...COLUMNS.map((column, i) => {
    const order = i === sorted.column ? (sorted.up ? "ascending" : "descending") : null;
    const sort = () => {
      sorted = { column: i, up: i === sorted.column ? !sorted.up : !column.number };
      drawHead();
      drawRows();
      document.querySelectorAll("#models thead th")[i].querySelector("button").focus();
    };
    const mark = order ? (sorted.up ? " ▲" : " ▼") : "";
    return element("th", { scope: "col", class: column.number ? "number" : null, "aria-sort": order },
      column.sort ? element("button", { type: "button", onclick: sort }, column.title, element("span", { "aria-hidden": "true" }, mark)) : column.title);
  }));
}

function drawRows() {
  const wanted = document.getElementById("filter").value.trim().toLowerCase();
  const { sort } = COLUMNS[sorted.column];
  const shown = [...rows.values()].filter(({ model }) => `${model.name} ${model.runtime} ${model.state}`.toLowerCase().includes(wanted));
  shown.sort((a, b) => (sort(a) < sort(b) ? -1 : sort(a) > sort(b) ? 1 : 0) * (sorted.up ? 1 : -1));
  const focused = document.activeElement?.getAttribute?.("href"); // rows are drawn anew, and a keyboard's place must stay
  document.querySelector("#models tbody").replaceChildren(...shown.map((row) => element("tr", {},
    ...COLUMNS.map((column, i) => element(i ? "td" : "th", { class: column.number ? "number" : null, scope: i ? null : "row" },
      ...column.cell(row))))));
  if (focused) document.querySelector(`#models a[href="${CSS.escape(focused)}"]`)?.focus();
  const empty = document.getElementById("empty");
  empty.hidden = shown.length > 0;
  empty.textContent = rows.size ? "no model matches the filter" : "the repository has no models, or you may read about none of them";
}

function draw(data) {
  const at = performance.now() / 1000;
  const seconds = last ? at - last.at : 0;
  const seen = new Set();
  for (const model of data.models) {
    const id = `${model.name}/${model.version}`;
    const row = rows.get(id) || { history: [], now: null };
    if (row.figures && seconds) {
      row.now = rates(model.figures, row.figures, seconds, data.buckets);
      row.history = [...row.history, row.now.perSecond].slice(-POINTS);
    }
    Object.assign(row, { model, figures: model.figures });
    rows.set(id, row);
    seen.add(id);
  }
  for (const id of rows.keys()) if (!seen.has(id)) rows.delete(id);
  drawServer(data.server);
  drawTotals(data, seconds);
  drawBuilds(data.environments);
  drawRows();
  last = { at };
}

function drawServer(server) {
  document.getElementById("server").textContent = `${server.name} ${server.version}`;
  document.getElementById("notes").replaceChildren(...server.notes.map((note) => element("p", { class: "note" }, note)));
}

let lastTotal = null;
function drawTotals(data, seconds) {
  const total = sum(data.models.map((model) => model.figures));
  const now = total && lastTotal && seconds ? rates(total, lastTotal, seconds, data.buckets) : null;
  lastTotal = total;
  const ready = data.models.filter((model) => model.state === "READY").length;
  const memory = data.models.reduce((bytes, model) => bytes + (model.memory_bytes || 0), 0);
  const facts = [
    ["Ready", `${ready} of ${data.models.length}`],
    ["Requests/s", number(now?.perSecond)],
    ["Failed/s", number(now?.failed)],
    ["In progress", number(total?.in_flight ?? 0)],
    ["Workers' memory", bytes(memory)],
    ["Front processes", number(data.server.fronts)],
  ];
  document.getElementById("totals").replaceChildren(...facts.map(([term, value]) =>
    element("div", {}, element("dt", {}, term), element("dd", {}, value))));
  if (!charts) {
    const parent = document.getElementById("charts");
    charts = [
      new Chart(parent, "Requests per second", [{ label: "all", color: "--series-1" }, { label: "failed", color: "--series-2" }], number),
      new Chart(parent, "Latency", [{ label: "p50", color: "--series-1" }, { label: "p99", color: "--series-2" }], duration),
      new Chart(parent, "Requests", [{ label: "waiting", color: "--series-2" }, { label: "in progress", color: "--series-1" }], number),
    ];
  }
  if (now) {
    charts[0].push([now.perSecond, now.failed]);
    charts[1].push([now.p50, now.p99]);
    charts[2].push([now.queued, now.inFlight]);
  }
}

function drawBuilds(environments) {
  document.getElementById("environments").hidden = !environments.length;
  document.getElementById("builds").replaceChildren(...environments.map(({ runtime, step, elapsed_s }) =>
    element("li", {}, element("strong", {}, runtime), step
      ? element("span", { class: "building" }, ` ${step}, ${Math.round(elapsed_s)} s`)
      : element("span", { class: "quiet" }, " waits for its turn"))));
}

drawHeader();
drawHead();
document.getElementById("filter").addEventListener("input", drawRows);
poll(() => json("/console/data"), draw);
