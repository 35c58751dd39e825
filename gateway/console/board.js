// A board to draw on, for models that take small images such as digits: by pointer, touch or keyboard.

import { element } from "./api.js";
import { nested } from "./values.js";

const SIZE = 280; // pixels of the canvas, whatever the size of the model's image
let boards = 0;
const KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/**
 * What to draw for an input: {height, width, shape, ink, isLikely}, or null if it does not take small images in one
 * color. `ink` is the value of what is drawn; the background is 0. It can be changed in the form. `isLikely` is false if
 * the input may as well be something else: 64 numbers need not be 8 × 8 pixels.
 */
export function boardOf(spec, preprocess, batchDim) {
  if (preprocess?.color === "GRAY" && Math.max(...preprocess.size) <= 64) {
    return { height: preprocess.size[0], width: preprocess.size[1], asImage: true, darkOnLight: preprocess.invert, isLikely: true };
  }
  if (!spec.shape || !/^(B?FP?|U?INT)\d/.test(spec.datatype)) return null;
  const shape = spec.shape.map((size, i) => (size === -1 && i === (batchDim ?? 0) ? 1 : size));
  const sizes = shape.filter((size) => size !== 1);
  const side = sizes.length === 1 ? Math.sqrt(sizes[0]) : sizes.length === 2 && sizes[0] === sizes[1] ? sizes[0] : 0;
  if (!Number.isInteger(side) || side < 8 || side > 32) return null;
  const most = { INT4: 7, UINT4: 15, INT8: 127 }[spec.datatype] ?? 255;
  const ink = Math.min(side === 8 ? 16 : /^(BF|FP)/.test(spec.datatype) ? 1 : 255, most);
  return { height: side, width: side, shape, ink, asImage: false, isLikely: sizes.length === 2 || side === 28 };
}

/** The board. `onDrawn` is called at the end of each stroke. */
export class Board {
  constructor({ height, width, shape, ink, asImage, darkOnLight }, onDrawn) {
    const help = `board-help-${++boards}`;
    Object.assign(this, { height, width, shape, asImage, darkOnLight, onDrawn });
    this.canvas = element("canvas", {
      class: "board", width: SIZE, height: SIZE, tabindex: 0, role: "application", "aria-label": "Drawing board",
      "aria-describedby": help,
    });
    this.context = this.canvas.getContext("2d", { willReadFrequently: true });
    this.mark = element("span", { class: "pen", "aria-hidden": "true" }); // where the keyboard's pen is
    this.small = element("canvas", { class: "seen", width, height, role: "img", "aria-label": "The drawing in the size of the model's input" });
    this.ink = element("input", { type: "number", value: ink ?? "", step: "any", oninput: () => onDrawn(true) });
    this.spoken = element("p", { class: "hidden", role: "status" });
    this.pen = { x: SIZE / 2, y: SIZE / 2 };
    this.erases = false;
    this.pointer = null; // the one that draws
    this.isChanged = false;
    const eraser = element("button", { type: "button", class: "plain", "aria-pressed": "false", onclick: () => {
      this.erases = !this.erases;
      eraser.setAttribute("aria-pressed", this.erases);
    } }, "Erase");
    this.node = element("div", { class: "drawing" },
      element("div", { class: "paper" }, this.canvas, this.mark),
      element("div", { class: "beside" },
        element("div", {}, element("span", { class: "quiet" }, `As ${height} × ${width} pixels`), this.small),
        asImage ? null : element("label", {}, "Value of ink ", this.ink),
        element("div", { class: "buttons" }, eraser, element("button", { type: "button", class: "plain", onclick: () => { this.clear(); onDrawn(true); } }, "Clear"))),
      element("p", { id: help, class: "quiet help" }, "Draw with a mouse, a pen or a finger. By keyboard: arrow keys move the pen, Space makes a dot, arrow keys with Shift draw a line."),
      this.spoken);
    this.listen();
    this.clear();
  }

  listen() {
    const { canvas } = this;
    const at = (event) => {
      const box = canvas.getBoundingClientRect();
      return { x: ((event.clientX - box.left) / box.width) * SIZE, y: ((event.clientY - box.top) / box.height) * SIZE };
    };
    canvas.addEventListener("pointerdown", (event) => {
      if (this.pointer !== null || event.button) return; // a second finger
      canvas.setPointerCapture(event.pointerId);
      this.pointer = event.pointerId;
      this.line(at(event), at(event));
    });
    canvas.addEventListener("pointermove", (event) => { if (event.pointerId === this.pointer) this.line(this.pen, at(event)); });
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, (event) => {
      if (event.pointerId !== this.pointer) return;
      this.pointer = null;
      this.finish();
    });
    canvas.addEventListener("keydown", (event) => this.press(event));
    canvas.addEventListener("keyup", (event) => { if (event.key === " " || event.key === "Shift") this.finish(); });
  }

  /** The end of a stroke. */
  finish() {
    if (this.isChanged) this.onDrawn();
    this.isChanged = false;
  }

  press(event) {
    const move = KEYS[event.key];
    if (!move && event.key !== " ") return;
    event.preventDefault();
    const to = move ? { x: clamp(this.pen.x + move[0] * this.step), y: clamp(this.pen.y + move[1] * this.step) } : this.pen;
    if (!move || event.shiftKey) this.line(this.pen, to);
    this.pen = to;
    this.show();
    const cell = (value, cells) => Math.min(cells, Math.floor((value / SIZE) * cells) + 1);
    this.spoken.textContent = `row ${cell(to.y, this.height)}, column ${cell(to.x, this.width)}${!move || event.shiftKey ? ", drawn" : ""}`;
  }

  get step() {
    return SIZE / Math.max(this.height, this.width);
  }

  /** The share of ink at each pixel of the canvas is the red channel: the board is white on black inside. */
  line(from, to) {
    const { context } = this;
    context.strokeStyle = this.erases ? "#000" : "#fff";
    context.lineWidth = SIZE * (this.erases ? 0.16 : this.height < 12 ? 0.13 : 0.085);
    context.lineCap = context.lineJoin = "round";
    context.beginPath();
    context.moveTo(from.x, from.y);
    context.lineTo(to.x + 0.01, to.y);
    context.stroke();
    this.pen = to;
    this.isChanged = true;
    this.show();
  }

  clear() {
    this.context.fillStyle = "#000";
    this.context.fillRect(0, 0, SIZE, SIZE);
    this.show();
  }

  /** The mean share of ink in each cell of the model's image, 0 to 1, row by row. */
  cells() {
    const { data } = this.context.getImageData(0, 0, SIZE, SIZE);
    const sums = new Float64Array(this.height * this.width), counts = new Float64Array(sums.length);
    for (let y = 0; y < SIZE; y++) {
      const row = Math.floor((y * this.height) / SIZE) * this.width;
      for (let x = 0; x < SIZE; x++) {
        const cell = row + Math.floor((x * this.width) / SIZE);
        sums[cell] += data[(y * SIZE + x) * 4] / 255;
        counts[cell]++;
      }
    }
    return Array.from(sums, (sum, i) => sum / counts[i]);
  }

  /** Draw the small image, and put the mark where the pen is. */
  show() {
    this.mark.style.left = `${(100 * this.pen.x) / SIZE}%`;
    this.mark.style.top = `${(100 * this.pen.y) / SIZE}%`;
    const context = this.small.getContext("2d");
    const image = context.createImageData(this.width, this.height);
    this.cells().forEach((share, i) => image.data.set([...Array(3).fill(Math.round(255 * (1 - share))), 255], i * 4));
    context.putImageData(image, 0, 0);
  }

  /** The drawing as JSON text in the shape of the input. */
  text() {
    const ink = Number(this.ink.value || 1);
    const isWhole = Number.isInteger(ink) && ink > 1;
    return nested(this.cells().map((share) => String(isWhole ? Math.round(share * ink) : Number((share * ink).toFixed(4)))), this.shape);
  }

  /** The drawing as a PNG file, dark on light or light on dark as the model's [preprocess] expects. */
  async image() {
    const canvas = element("canvas", { width: SIZE, height: SIZE });
    const context = canvas.getContext("2d");
    context.drawImage(this.canvas, 0, 0);
    if (this.darkOnLight) {
      context.globalCompositeOperation = "difference"; // inverts
      context.fillStyle = "#fff";
      context.fillRect(0, 0, SIZE, SIZE);
    }
    const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
    return new File([blob], "drawing.png", { type: "image/png" });
  }
}

const clamp = (value) => Math.min(SIZE, Math.max(0, value));
