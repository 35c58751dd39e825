// The page of all models.

import { drawHeader, element, json, poll } from "/console/files/api.js";
import { Chart, sparkline } from "/console/files/charts.js";
import { between, bytes, duration, number, rates, sum } from "/console/files/figures.js";

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

const rows = new Map(); // "name/version" → {model, now, history}
let sorted = { column: 0, up: true };
let last = null; // what the previous reading said of the server
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

/** The row's node. Only cells that have changed are replaced: a click, a selection and a keyboard's place need the others. */
function nodeOf(row) {
  const cells = COLUMNS.map((column, i) => element(i ? "td" : "th", { class: column.number ? "number" : null, scope: i ? null : "row" }, ...column.cell(row)));
  row.node ??= element("tr");
  if (!row.node.cells.length) row.node.append(...cells);
  cells.forEach((cell, i) => { if (!cell.isEqualNode(row.node.cells[i])) row.node.cells[i].replaceWith(cell); });
  return row.node;
}

/** Make these the children, in this order, without moving those that are where they belong. */
function place(parent, nodes) {
  const kept = new Set(nodes);
  for (const child of [...parent.children]) if (!kept.has(child)) child.remove();
  const focused = document.activeElement;
  nodes.forEach((node, i) => { if (parent.children[i] !== node) parent.insertBefore(node, parent.children[i] ?? null); });
  if (focused !== document.activeElement && focused?.isConnected) focused.focus(); // a node that moves loses the focus
}

function drawRows() {
  const wanted = document.getElementById("filter").value.trim().toLowerCase();
  const { sort } = COLUMNS[sorted.column];
  const shown = [...rows.values()].filter(({ model }) => `${model.name} ${model.runtime} ${model.state}`.toLowerCase().includes(wanted));
  shown.sort((a, b) => (sort(a) < sort(b) ? -1 : sort(a) > sort(b) ? 1 : 0) * (sorted.up ? 1 : -1));
  place(document.querySelector("#models tbody"), shown.map(nodeOf));
  const empty = document.getElementById("empty");
  empty.hidden = shown.length > 0;
  empty.textContent = rows.size ? "no model matches the filter" : "the repository has no models, or you may read about none of them";
}

function draw(data) {
  const seconds = between(data.server, last);
  const before = new Map(rows);
  rows.clear();
  const compared = []; // [later, earlier] of each version that was there before
  for (const model of data.models) {
    const id = `${model.name}/${model.version}`;
    const row = before.get(id);
    if (row && seconds) compared.push([model.figures, row.model.figures]);
    const now = !row || seconds === null ? null : seconds ? rates(model.figures, row.model.figures, seconds, data.buckets) : row.now;
    const history = !row || seconds === null ? [] : seconds ? [...row.history, now.perSecond].slice(-POINTS) : row.history;
    rows.set(id, { model, now, history, node: row?.node });
  }
  last = data.server;
  drawServer(data.server);
  drawTotals(data, compared, seconds);
  drawBuilds(data.environments);
  drawRows();
}

function drawServer(server) {
  document.getElementById("server").textContent = `${server.name} ${server.version}`;
  document.getElementById("notes").replaceChildren(...server.notes.map((note) => element("p", { class: "note" }, note)));
}

let total = null; // of all versions, between the last two readings
function drawTotals(data, compared, seconds) {
  if (seconds !== 0) total = compared.length ? rates(...[0, 1].map((i) => sum(compared.map((pair) => pair[i]))), seconds, data.buckets) : null;
  const ready = data.models.filter((model) => model.state === "READY").length;
  const memory = data.models.reduce((bytes, model) => bytes + (model.memory_bytes || 0), 0);
  const facts = [
    ["Ready", `${ready} of ${data.models.length}`],
    ["Requests/s", number(total?.perSecond)],
    ["Failed/s", number(total?.failed)],
    ["In progress", number(data.models.reduce((count, { figures }) => count + figures.in_flight, 0))],
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
  if (seconds === null) charts.forEach((chart) => chart.interrupt());
  if (seconds && total) {
    charts[0].push([total.perSecond, total.failed]);
    charts[1].push([total.p50, total.p99]);
    charts[2].push([total.queued, total.inFlight]);
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
