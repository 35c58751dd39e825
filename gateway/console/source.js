// Where the value of one input comes from: an editor for JSON, a .npy file, an image, or a drawing.

import { element } from "./api.js";
import { Board, boardOf } from "./board.js";
import { shapeText } from "./signature.js";
import { datatypeOf, example, parse, readNpy } from "./values.js";

const TITLES = { none: "Left out", draw: "Drawing", image: "Image", json: "JSON", npy: ".npy file" };
const MAX_EDITED = 30000; // characters; a longer text makes the browser's editor slow
const HEAD = 400;

/** The height of the editor. */
const linesOf = (text) => Math.min(8, Math.max(2, text.split("\n").reduce((lines, line) => lines + Math.ceil(line.length / 45), 0)));

export class Source {
  /** onChange(isStroke): the value has changed; at the end of a stroke, isStroke is true. */
  constructor(spec, { preprocess, batch_dim }, onChange) {
    const batchDim = spec.has_rows === false ? null : batch_dim;
    Object.assign(this, { spec, batchDim, onChange });
    const board = boardOf(spec, preprocess, batchDim);
    this.kinds = [spec.optional && "none", board && "draw", preprocess && "image", "json", "npy"].filter(Boolean);
    this.kind = board && !board.isLikely && !spec.optional ? "json" : this.kinds[0];
    this.text = example(spec, batchDim);
    this.file = null; // an image
    this.npy = null; // {file, shape, datatype, text}
    this.problem = "";
    this.board = board && new Board(board, (isSilent) => onChange(!isSilent));
    this.panel = element("div", { class: "panel-of-input" });
    this.node = element("fieldset", {},
      element("legend", {}, element("code", {}, spec.name), element("span", { class: "quiet" }, ` ${spec.datatype || "any datatype"} ${shapeText(spec.shape, batchDim)}`)),
      this.choices(), this.panel);
    this.draw();
  }

  choices() {
    const group = `source-of-${this.spec.name}`;
    return element("div", { class: "choices", role: "radiogroup", "aria-label": `Source of ${this.spec.name}` }, ...this.kinds.map((kind) => {
      const radio = element("input", { type: "radio", name: group, value: kind, onchange: () => { this.kind = kind; this.draw(); this.onChange(false); } });
      radio.checked = kind === this.kind;
      return element("label", {}, radio, element("span", {}, TITLES[kind]));
    }));
  }

  draw() {
    const panels = { none: () => element("p", { class: "quiet" }, "The model can do without this input."), draw: () => this.board.node, image: () => this.imagePanel(), json: () => this.jsonPanel(), npy: () => this.npyPanel() };
    this.panel.replaceChildren(panels[this.kind]());
  }

  jsonPanel() {
    const id = `json-of-${this.spec.name}`;
    const renew = element("button", { type: "button", class: "plain", onclick: () => this.setText(example(this.spec, this.batchDim)) }, "Reset to the example");
    if (this.text.length > MAX_EDITED) {
      return element("div", {}, element("p", {}, `${this.text.length.toLocaleString("en")} characters, too long to be edited here: `, element("code", { class: "wrap" }, `${this.text.slice(0, HEAD)} …`)),
        element("div", { class: "buttons" }, renew, element("button", { type: "button", class: "plain", onclick: () => this.setText("") }, "Write another value")));
    }
    const area = element("textarea", { id, rows: linesOf(this.text), spellcheck: "false", autocapitalize: "off", oninput: () => { this.text = area.value; this.onChange(false); } });
    area.value = this.text;
    return element("div", {}, element("label", { for: id, class: "hidden" }, `Value of ${this.spec.name} as JSON`), area, element("div", { class: "buttons" }, renew));
  }

  setText(text) {
    this.text = text;
    this.draw();
    this.onChange(false);
  }

  npyPanel() {
    const { npy, problem } = this;
    const about = npy ? `${npy.file.name}: ${npy.datatype || "a datatype of numpy"}, [${npy.shape.join(", ")}]` : "An array as numpy.save writes it.";
    return element("div", {}, this.drop(".npy", "npy", (file) => this.takeNpy(file)), element("p", { class: problem ? "note error" : "quiet", role: "status" }, problem || about));
  }

  async takeNpy(file) {
    try {
      const read = readNpy(await file.arrayBuffer());
      [this.npy, this.problem] = [{ file, ...read }, ""];
    } catch (error) {
      [this.npy, this.problem] = [null, error.message];
    }
    this.draw();
    this.onChange(false);
  }

  imagePanel() {
    const shown = this.file ? element("img", { class: "preview", src: this.preview, alt: `The chosen image, ${this.file.name}` }) : null;
    return element("div", { class: "image" },
      this.drop("image/*", "image", (file) => this.takeImage(file)), shown,
      element("p", { class: "quiet", role: "status" }, this.file ? `${this.file.name}, ${Math.ceil(this.file.size / 1000)} kB` : "JPEG, PNG, WebP, BMP or GIF. You can also paste an image."));
  }

  takeImage(file) {
    if (this.preview) URL.revokeObjectURL(this.preview);
    [this.file, this.preview] = [file, URL.createObjectURL(file)];
    this.draw();
    this.onChange(false);
  }

  /** A zone for a file: it can be dropped, or chosen in the browser's dialog. */
  drop(accept, id, take) {
    const input = element("input", { type: "file", accept, id: `${id}-of-${this.spec.name}`, class: "file", onchange: () => { if (input.files[0]) take(input.files[0]); } });
    const zone = element("label", { class: "drop" }, input, element("span", {}, "Drop a file here, or ", element("u", {}, "choose one")));
    zone.addEventListener("dragover", (event) => { event.preventDefault(); zone.classList.add("over"); });
    zone.addEventListener("dragleave", () => zone.classList.remove("over"));
    zone.addEventListener("drop", (event) => {
      event.preventDefault();
      zone.classList.remove("over");
      const [file] = event.dataTransfer.files;
      if (file) take(file);
    });
    return zone;
  }

  /** Take a pasted image, if an image can be chosen now. Returns whether it did. */
  paste(file) {
    if (this.kind !== "image") return false;
    this.takeImage(new File([file], file.name || "pasted.png", { type: file.type }));
    return true;
  }

  /**
   * The value: {image: File}, {npy: File, text, ...} or {text}; null if the input is left out. `text` is null if the file
   * must be sent as it is.
   * Throws an Error with a sentence if there is none yet.
   */
  async value() {
    const { name, datatype } = this.spec;
    if (this.kind === "none") return null;
    if (this.kind === "draw" && this.board.asImage) return { image: await this.board.image() };
    if (this.kind === "image" && !this.file) throw new Error(`choose an image for ${name}`);
    if (this.kind === "image") return { image: this.file };
    if (this.kind === "npy" && !this.npy) throw new Error(this.problem || `choose a .npy file for ${name}`);
    if (this.kind === "npy") return { name, datatype: this.npy.datatype || datatype, text: this.npy.text, npy: this.npy.file };
    const text = this.kind === "draw" ? this.board.text() : this.text;
    try {
      const value = parse(text);
      return { name, datatype: datatype || datatypeOf(value), text };
    } catch {
      throw new Error(`the value of ${name} is not JSON`);
    }
  }
}
