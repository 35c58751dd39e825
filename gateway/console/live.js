// What a model does at the moment: charts, and its batch sizes so far.

import { element } from "./api.js";
import { Chart } from "./charts.js";
import { between, duration, number, rates } from "./figures.js";

/** Charts of one model. `update` takes one reading: a version's entry in /console/data, and what that says of the server. */
export class Live {
  constructor(parent) {
    this.charts = [
      new Chart(parent, "Requests per second", [{ label: "all", color: "--series-1" }, { label: "failed", color: "--series-2" }], number),
      new Chart(parent, "Latency", [{ label: "p50", color: "--series-1" }, { label: "p99", color: "--series-2" }], duration),
      new Chart(parent, "Mean time", [{ label: "queue", color: "--series-2" }, { label: "compute", color: "--series-3" }], duration),
    ];
    this.batches = element("figure", { class: "chart batches" });
    parent.append(this.batches);
  }

  update({ version, figures }, server, buckets) {
    const { last } = this;
    const seconds = last?.version === version ? between(server, last.server) : null;
    if (seconds === 0) return; // the same reading
    this.last = { version, figures, server };
    if (seconds === null) this.charts.forEach((chart) => chart.interrupt());
    else {
      const now = rates(figures, last.figures, seconds, buckets);
      this.charts[0].push([now.perSecond, now.failed]);
      this.charts[1].push([now.p50, now.p99]);
      this.charts[2].push([now.queue, mean(figures.compute_infer, last.figures.compute_infer)]);
    }
    this.drawBatches(figures.batch_rows.counts, buckets.rows);
  }

  drawBatches(counts, bounds) {
    const all = sum(counts), most = Math.max(...counts, 1);
    const end = counts.findLastIndex((count) => count > 0) + 1;
    const title = (i) => {
      if (i === bounds.length) return `over ${bounds.at(-1)}`;
      const low = i ? bounds[i - 1] + 1 : 1;
      return low === bounds[i] ? String(low) : `${low}–${bounds[i]}`;
    };
    this.batches.replaceChildren(
      element("figcaption", {}, all ? `Rows per batch, ${number(all)} ${all === 1 ? "batch" : "batches"} since the server started` : "Rows per batch: nothing has run yet"),
      element("ol", { class: "bars" }, ...counts.slice(0, end).map((count, i) => {
        const bar = element("span", { class: "bar", "aria-hidden": "true" });
        bar.style.setProperty("--width", `${(100 * count) / most}%`);
        return element("li", {}, element("span", { class: "label" }, title(i)), bar, element("span", { class: "number" }, number(count)));
      })));
  }
}

const sum = (counts) => counts.reduce((total, count) => total + count, 0);

/** The mean of what was observed between two readings of a histogram; null if there was nothing. */
function mean(later, earlier) {
  const observed = sum(later.counts) - sum(earlier.counts);
  return observed > 0 ? (later.total - earlier.total) / observed : null;
}
