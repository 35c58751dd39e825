// Charts of series over time, by uPlot, and the small lines in the table of models.

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/**
 * A chart that grows at its right end. lines: [{label, color}], where color is the name of a custom property of
 * console.css. write: how a value is written. `push(values)` adds a point; null is a gap. Points of the last `span`
 * seconds are kept.
 */
export class Chart {
  constructor(parent, caption, lines, write, span = 300) {
    this.span = span;
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
    const last = times.at(-1) ?? now();
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

  /** What comes next does not continue the line. */
  interrupt() {
    this.caption.textContent = this.title;
    if (this.data[0].length) this.add(this.lines.map(() => null));
  }

  push(values) {
    this.add(values);
    this.caption.replaceChildren(`${this.title}:`, ...this.lines.flatMap(({ label, color }, i) => {
      const key = document.createElement("span");
      key.className = "key";
      key.style.background = `var(${color})`;
      return [key, `${label} ${this.write(values[i])}`];
    }));
  }

  add(values) {
    const time = now();
    this.data[0].push(time);
    values.forEach((value, i) => this.data[i + 1].push(value));
    while (this.data[0][0] < time - this.span) this.data.forEach((column) => column.shift());
    this.plot.setData(this.data);
  }
}

/** Seconds since 1970. It never goes back, even if the clock is set: the points of a chart must be in order. */
const now = () => (performance.timeOrigin + performance.now()) / 1000;

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
