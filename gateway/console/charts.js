// Charts of series over time, by uPlot, and the small lines in the table of models.

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/**
 * A chart that grows at its right end. lines: [{label, color}], where color is the name of a custom property of
 * console.css. write: how a value is written. `push(values)` adds a point; null is a gap.
 */
export class Chart {
  constructor(parent, caption, lines, write, points = 150) {
    this.points = points;
    this.lines = lines;
    this.write = write;
    this.data = [[], ...lines.map(() => [])];
    this.figure = document.createElement("figure");
    this.figure.className = "chart";
    this.caption = document.createElement("figcaption");
    this.box = document.createElement("div");
    this.box.setAttribute("aria-hidden", "true"); // the caption says the same in words
    this.title = caption;
    this.figure.append(this.caption, this.box);
    parent.append(this.figure);
    this.caption.textContent = caption;
    this.draw();
    new ResizeObserver(() => this.plot.setSize({ width: this.width(), height: 120 })).observe(this.figure);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  width() {
    return Math.max(200, Math.floor(this.figure.clientWidth));
  }

  window(times) {
    const last = times.at(-1) ?? Date.now() / 1000;
    return [Math.min(times[0] ?? last, last - 60), last];
  }

  draw() {
    this.plot?.destroy();
    const axis = { stroke: css("--quiet"), grid: { stroke: css("--line"), width: 1 }, ticks: { show: false }, font: "11px system-ui" };
    this.plot = new window.uPlot({
      width: this.width(), height: 120, legend: { show: false }, cursor: { show: false },
      // The newest minute at least: with one point, uPlot would show years.
      scales: { x: { range: ({ data: [times] }) => this.window(times) }, y: { range: (_, low, high) => [0, high > 0 ? high * 1.1 : 1] } },
      axes: [
        { ...axis, space: 60, size: 22 },
        { ...axis, space: 28, size: 58, values: (_, splits) => splits.map((value) => this.write(value)) },
      ],
      series: [{}, ...this.lines.map(({ color }) => ({ stroke: css(color), width: 1.6, points: { show: false }, spanGaps: false }))],
    }, this.data, this.box);
  }

  push(values, seconds = Date.now() / 1000) {
    this.data[0].push(seconds);
    values.forEach((value, i) => this.data[i + 1].push(value));
    if (this.data[0].length > this.points) this.data.forEach((column) => column.shift());
    this.plot.setData(this.data);
    this.caption.replaceChildren(`${this.title}:`, ...this.lines.flatMap(({ label, color }, i) => {
      const key = document.createElement("span");
      key.className = "key";
      key.style.background = `var(${color})`;
      return [key, `${label} ${this.write(values[i])}`];
    }));
  }
}

/** A line of values without axes, as SVG. */
export function sparkline(values) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 80 22");
  svg.setAttribute("class", "spark");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  const high = Math.max(...values, 1e-9);
  path.setAttribute("d", values.map((value, i) => `${i ? "L" : "M"}${((i * 80) / Math.max(1, values.length - 1)).toFixed(1)} ${(20 - (value / high) * 18).toFixed(1)}`).join(""));
  svg.append(path);
  return svg;
}
