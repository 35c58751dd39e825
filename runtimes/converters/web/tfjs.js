// node tfjs.js NPM MODEL BACKEND: see runtime.py, which starts it.
'use strict';
const fs = require('fs');
const path = require('path');
const vm = require('vm');

const [npm, folder, backend] = process.argv.slice(2);
const DTYPES = {DT_FLOAT: 'float32', DT_INT32: 'int32', DT_BOOL: 'bool'};
const ARRAYS = {float32: Float32Array, int32: Int32Array, bool: Uint8Array};

// Load the bundles as a page does with <script>, so that they share one TensorFlow.js. `process` is hidden from them,
// because in node they would require npm modules that are not installed. They fetch only their own files.
const exit = process.exit;
globalThis.process = undefined;
globalThis.window = globalThis;
globalThis.document = {};
globalThis.fetch = async (file) => new Response(fs.readFileSync(String(file)), {
  headers: {'Content-Type': 'application/wasm'},
});
for (const bundle of ['tfjs/dist/tf.min.js', 'tfjs-backend-wasm/dist/tf-backend-wasm.min.js']) {
  const file = path.join(npm, '@tensorflow', bundle);
  vm.runInThisContext(fs.readFileSync(file, 'utf8'), {filename: file});
}
const tf = globalThis.tf;

/** Write a line of JSON, then the bytes of the tensors, to standard output. */
function send(head, parts = []) {
  fs.writeSync(1, JSON.stringify(head) + '\n');
  for (const part of parts) {
    for (let at = 0; at < part.length;) at += fs.writeSync(1, part, at);
  }
}

function read(size) {
  const buffer = Buffer.alloc(size);
  for (let at = 0; at < size;) {
    const count = fs.readSync(0, buffer, at, size - at);
    if (!count) exit(0);
    at += count;
  }
  return buffer;
}

function readLine() {
  const bytes = [];
  for (;;) {
    const byte = read(1)[0];
    if (byte === 10) return Buffer.from(bytes).toString();
    bytes.push(byte);
  }
}

function specs(entries) {
  return Object.entries(entries).map(([name, entry]) => ({
    name,
    dtype: DTYPES[entry.dtype],
    shape: entry.tensorShape && !entry.tensorShape.unknownRank
      ? (entry.tensorShape.dim || []).map((dim) => Number(dim.size)) : null,
  }));
}

async function load() {
  tf.env().set('WASM_HAS_MULTITHREAD_SUPPORT', false);  // its threads are web workers, which node lacks
  tf.wasm.setWasmPaths(path.join(npm, '@tensorflow/tfjs-backend-wasm/dist/'));
  if (!await tf.setBackend(backend)) throw new Error(`TensorFlow.js has no backend ${backend} here`);
  const artifacts = JSON.parse(fs.readFileSync(path.join(folder, 'model.json'), 'utf8'));
  const weightSpecs = [];
  const buffers = [];
  for (const group of artifacts.weightsManifest) {
    weightSpecs.push(...group.weights);
    for (const shard of group.paths) buffers.push(fs.readFileSync(path.join(folder, shard)));
  }
  const all = Buffer.concat(buffers);
  const weightData = all.buffer.slice(all.byteOffset, all.byteOffset + all.length);
  const model = await tf.loadGraphModel(tf.io.fromMemory({...artifacts, weightSpecs, weightData}));
  return {model, signature: artifacts.signature};
}

async function answer(model, signature, request) {
  const dtypes = Object.fromEntries(specs(signature.inputs).map((entry) => [entry.name, entry.dtype]));
  const inputs = {};
  for (const entry of request.inputs) {
    const bytes = read(entry.bytes);
    const copy = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length);
    inputs[entry.name] = tf.tensor(new ARRAYS[dtypes[entry.name]](copy), entry.shape, dtypes[entry.name]);
  }
  let results = [];
  try {
    results = await model.executeAsync(inputs, request.outputs);
    results = Array.isArray(results) ? results : [results];
    const values = [];
    for (const result of results) values.push(await result.data());
    const outputs = results.map((result, index) => ({
      name: request.outputs[index], dtype: result.dtype, shape: result.shape, bytes: values[index].byteLength,
    }));
    send({outputs}, values.map((value) => Buffer.from(value.buffer, value.byteOffset, value.byteLength)));
  } finally {
    tf.dispose([Object.values(inputs), results]);
  }
}

(async () => {
  let loaded;
  try {
    loaded = await load();
  } catch (error) {
    send({error: String(error.message || error)});
    return;
  }
  const {model, signature} = loaded;
  send({inputs: specs(signature.inputs), outputs: specs(signature.outputs)});
  for (;;) {
    const request = JSON.parse(readLine());
    try {
      await answer(model, signature, request);
    } catch (error) {
      send({error: String(error.message || error)});
    }
  }
})();
