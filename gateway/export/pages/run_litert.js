// Runs model.tflite with LiteRT.js. See page.js for the interface of a runner.
'use strict';

globalThis.runner = {
  async load(page) {
    if (!this.litert) {
      this.litert = await import(new URL('lib/litert/index.js', document.baseURI).href);
      await this.litert.loadLiteRt(new URL('lib/litert/wasm/', document.baseURI).href);
    }
    if (this.model) this.model.delete();
    this.model = await this.litert.loadAndCompile(new URL(page.file, document.baseURI).href, {accelerator: 'wasm'});
    // If the file has no signature, the model itself has the same interface.
    this.signature = this.model.signatures[page.signature] || this.model;
  },

  async run(inputs, outputs) {
    const given = {};
    let results = {};
    try {
      for (const [name, each] of Object.entries(inputs)) given[name] = new this.litert.Tensor(each.data, each.shape);
      results = await this.signature.run(given);
      const answer = {};
      for (const name of outputs) {
        const data = await results[name].data();
        answer[name] = {shape: [...results[name].type.layout.dimensions], data: data.slice()};
      }
      return answer;
    } finally {
      for (const tensor of [...Object.values(given), ...Object.values(results)]) tensor.delete();
    }
  },
};
