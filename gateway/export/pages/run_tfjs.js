// Runs model.json with TensorFlow.js. See page.js for the interface of a runner.
'use strict';

const TYPES = {FP32: 'float32', INT32: 'int32', BOOL: 'bool'};

globalThis.runner = {
  async load(page, backend) {
    if (this.model) this.model.dispose();
    this.model = null;
    tf.env().set('WASM_HAS_MULTITHREAD_SUPPORT', false);  // as in the verification
    tf.wasm.setWasmPaths(new URL('lib/tfjs/', document.baseURI).href);
    if (!await tf.setBackend(backend)) throw new Error(`this browser does not support ${backend}`);
    await tf.ready();
    this.model = await tf.loadGraphModel(new URL(page.file, document.baseURI).href);
  },

  async run(inputs, outputs) {
    const given = {};
    for (const [name, each] of Object.entries(inputs)) {
      given[name] = tf.tensor(each.data, each.shape, TYPES[each.datatype]);
    }
    let results = [];
    try {
      results = await this.model.executeAsync(given, outputs);
      results = Array.isArray(results) ? results : [results];
      const answer = {};
      for (const [index, result] of results.entries()) {
        answer[outputs[index]] = {shape: result.shape, data: await result.data()};
      }
      return answer;
    } finally {
      tf.dispose([Object.values(given), results]);
    }
  },
};
