// The form to try a model, made from its signature. It sends what a client would send to /predict.

import { drawAnswer, drawError } from "./answer.js";
import { element, key, request as send } from "./api.js";
import { contentType, jsonBody, path } from "./snippets.js";
import { Source } from "./source.js";
import { entry } from "./values.js";

const MAX_SHOWN = 4000; // characters of a body that programs contain; a longer one is in a file beside them

/** The id of a sequence as JSON text. Throws an Error with a sentence. */
function sequenceId(text) {
  if (!text) throw new Error("enter a sequence id");
  if (!/^\d+$/.test(text)) return JSON.stringify(text.match(/^"(.+)"$/)?.[1] ?? text);
  const number = BigInt(text);
  if (number < 1n || number >= 1n << 64n) throw new Error("enter a sequence id from 1 to 2^64 - 1, or text");
  return String(number);
}

export class Form {
  /**
   * model: what the route `configuration` returns. parts: elements {form, answer, spoken}, used by one Form only.
   * onRequest(request, body) is called when what would be sent has changed; `request` is as in snippets.js, or an
   * Error. onAnswer() is called after each answer.
   */
  constructor(model, { form, answer, spoken }, { onRequest, onAnswer }) {
    Object.assign(this, { model, form, answer, spoken, onRequest, onAnswer });
    this.signature = model.signatures[0];
    this.turn = 0;
    form.addEventListener("submit", (event) => { event.preventDefault(); this.submit(); });
    document.addEventListener("modelport-key", () => this.changed());
    document.addEventListener("paste", (event) => {
      if (!form.isConnected) return;
      const file = [...(event.clipboardData?.files ?? [])].find(({ type }) => type.startsWith("image/"));
      if (file && this.sources.some((source) => source.paste(file))) event.preventDefault();
    });
    this.draw();
  }

  draw() {
    const { inputs, outputs, refused } = this.signature;
    const onChange = (isStroke) => { this.changed(); if (isStroke && this.live.checked) this.submit(); };
    const isDefault = this.signature === this.model.signatures[0];
    // Only the default signature takes images, and only as the input that it needs.
    const accepts = (spec) => ({ ...this.model, preprocess: isDefault && !spec.optional ? this.model.preprocess : null });
    this.sources = inputs.map((spec) => new Source(spec, accepts(spec), onChange));
    this.live = element("input", { type: "checkbox" });
    this.live.checked = true;
    this.outputs = outputs.filter(({ name }) => !entry(refused, name)).map(({ name }) => {
      const box = element("input", { type: "checkbox", value: name, onchange: () => this.changed() });
      box.checked = true;
      return box;
    });
    this.choice = this.outputs.length < 2 ? null : element("fieldset", {}, element("legend", {}, "Outputs"),
      element("div", { class: "checks" }, ...this.outputs.map((box) => element("label", { class: "check" }, box, element("code", {}, ` ${box.value}`)))));
    this.form.replaceChildren(
      this.signatures(), ...this.sources.map(({ node }) => node), this.sequenceFields(), this.choice ?? "",
      element("div", { class: "buttons" },
        element("button", { class: "main" }, "Send the request"),
        this.liveLabel = element("label", { class: "check" }, this.live, " Send after each stroke")));
    this.changed();
  }

  signatures() {
    const { signatures } = this.model;
    if (signatures.length < 2) return "";
    const select = element("select", { onchange: () => { this.signature = signatures[select.selectedIndex]; this.draw(); this.form.querySelector("select").focus(); } },
      ...signatures.map(({ name }) => element("option", { value: name, selected: name === this.signature.name }, name)));
    return element("label", {}, "Signature ", select);
  }

  /** Fields for the sequence of the request. They keep what was entered when another signature is chosen. */
  sequenceFields() {
    if (!this.model.sequence) return "";
    const onchange = () => this.changed();
    this.sequenceId ??= element("input", { id: "sequence-id", type: "text", value: "1", autocomplete: "off", oninput: onchange });
    this.sequenceStart ??= element("input", { id: "sequence-start", type: "checkbox", onchange });
    this.sequenceEnd ??= element("input", { id: "sequence-end", type: "checkbox", onchange });
    return element("fieldset", {}, element("legend", {}, "Sequence"),
      element("div", { class: "checks" },
        element("label", {}, "Id ", this.sequenceId),
        element("label", { class: "check" }, this.sequenceStart, " Start"),
        element("label", { class: "check" }, this.sequenceEnd, " End")),
      element("p", { class: "help" }, "A whole number, or text. A number in quotes is text."));
  }

  /** {id, start, end}, with the id as JSON text; null for models without sequences. Throws an Error with a sentence. */
  sequence() {
    if (!this.model.sequence) return null;
    return { id: sequenceId(this.sequenceId.value.trim()), start: this.sequenceStart.checked, end: this.sequenceEnd.checked };
  }

  /** The request and its body. Throws an Error with a sentence. */
  async request() {
    const values = (await Promise.all(this.sources.map((source) => source.value()))).filter(Boolean);
    const { name: model, version, signatures } = this.model;
    const chosen = this.outputs.filter(({ checked }) => checked).map(({ value }) => value);
    if (this.outputs.length && !chosen.length) throw new Error("choose an output");
    const outputs = chosen.length === this.outputs.length ? [] : chosen;
    const signature = this.signature === signatures[0] ? "" : this.signature.name;
    const inputs = values.filter(({ image }) => !image).map(({ name, datatype, text, npy }) => ({ name, datatype, text, file: npy?.name ?? "" }));
    const sequence = this.sequence();
    const request = { origin: location.origin, model, version, hasKey: Boolean(key.get()), inputs, signature, outputs, sequence, file: null };
    const [first] = values;
    if (first?.image && sequence) throw new Error("an image cannot be sent with a sequence id; choose JSON or a .npy file");
    if (first?.image && values.length > 1) throw new Error("an image can only be sent without other inputs; leave them out");
    if (first?.image) return this.withFile({ ...request, inputs: [], outputs: [] }, "image", first.image, first.image.type || "application/octet-stream");
    const sentAsItIs = first?.npy && values.length === 1 && !signature && !outputs.length && !sequence;
    if (sentAsItIs) return this.withFile(request, "npy", first.npy, "application/x-npy");
    const unreadable = values.find(({ text }) => text === null);
    if (unreadable) throw new Error(`${unreadable.npy.name} can only be sent as the only input of the default signature, with all outputs and without a sequence`);
    const body = jsonBody(request);
    if (body.length <= MAX_SHOWN) return { request, body };
    return this.withFile(request, "json", new File([body], "request.json"), "application/json");
  }

  withFile(request, kind, file, type) {
    return { request: { ...request, file: { kind, name: file.name, type } }, body: file };
  }

  async changed() {
    const turn = ++this.turn;
    this.liveLabel.hidden = !this.sources.some(({ kind }) => kind === "draw");
    let found;
    try {
      found = await this.request();
    } catch (error) {
      found = { request: error, body: null };
    }
    if (this.choice) this.choice.disabled = found.request.file?.kind === "image";
    if (turn === this.turn && this.form.isConnected) this.onRequest(found.request, found.body);
  }

  async submit() {
    this.sending?.abort();
    const { signal } = (this.sending = new AbortController());
    this.answer.setAttribute("aria-busy", "true");
    try {
      const { request, body } = await this.request();
      const started = performance.now();
      const response = await send(path(request), { method: "POST", headers: { "Content-Type": contentType(request) }, body, signal });
      const text = await response.text();
      this.spoken.textContent = drawAnswer(this.answer, text, (performance.now() - started) / 1000, this.model.class_labels, this.sources.some(({ kind }) => kind === "draw"));
      this.onAnswer();
    } catch (error) {
      if (error.name === "AbortError") return;
      drawError(this.answer, error);
      this.spoken.textContent = error.message;
    }
    this.answer.removeAttribute("aria-busy");
  }
}
