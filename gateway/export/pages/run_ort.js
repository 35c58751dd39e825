// Runs model.onnx with ONNX Runtime Web. See page.js for the interface of a runner.
'use strict';

const TYPES = {
  FP16: 'float16', FP32: 'float32', FP64: 'float64', INT8: 'int8', INT16: 'int16', INT32: 'int32', INT64: 'int64',
  UINT8: 'uint8', UINT16: 'uint16', UINT32: 'uint32', UINT64: 'uint64', BOOL: 'bool',
};

globalThis.runner = {
  async load(page) {
    if (!this.ort) {
      this.ort = await import(new URL('lib/ort/ort.wasm.bundle.min.js', document.baseURI).href);
      this.ort.env.wasm.numThreads = 1;  // more threads require headers (COOP, COEP) that few servers send
      this.ort.env.wasm.wasmPaths = {wasm: new URL('lib/ort/ort-wasm-simd-threaded.wasm', document.baseURI).href};
    }
    if (this.session) await this.session.release();
    const address = (path) => new URL(path.split('/').map(encodeURIComponent).join('/'), document.baseURI).href;
    this.session = await this.ort.InferenceSession.create(address(page.file), {
      executionProviders: ['wasm'],
      externalData: page.weights.map((path) => ({path, data: address(path)})),
    });
  },

  async run(inputs, outputs) {
    const given = {};
    for (const [name, each] of Object.entries(inputs)) {
      given[name] = new this.ort.Tensor(TYPES[each.datatype], each.data, each.shape);
    }
    const results = await this.session.run(given, outputs);
    return Object.fromEntries(outputs.map((name) => [name, {shape: [...results[name].dims], data: results[name].data}]));
  },
};
