// node make_tfjs.js NPM FOLDER …: makes FOLDER/made, a layers model, and writes answers.json for each model in FOLDER.
//
// A model is a folder with model.json, and given.json has its inputs: name → [datatype, array]. answers.json has the
// outputs in the same form, by the names that model.json has in its signature, or else by those of the layers.
'use strict';
const fs = require('fs');
const path = require('path');
const vm = require('vm');

const [npm, root] = process.argv.slice(2);
// As in a page; see runtimes/converters/web/tfjs.js.
globalThis.process = undefined;
globalThis.window = globalThis;
globalThis.document = {};
const file = path.join(npm, '@tensorflow', 'tfjs/dist/tf.min.js');
vm.runInThisContext(fs.readFileSync(file, 'utf8'), {filename: file});
const tf = globalThis.tf;

function write(folder, name, content) {
  fs.mkdirSync(path.join(root, folder), {recursive: true});
  fs.writeFileSync(path.join(root, folder, name), content);
}

async function make() {
  const image = tf.input({shape: [6, 6, 3], name: 'image'});
  const count = tf.input({shape: [2], dtype: 'int32', name: 'count'});
  let x = tf.layers.conv2d({filters: 4, kernelSize: 3, activation: 'relu', kernelInitializer: 'glorotNormal'}).apply(image);
  x = tf.layers.batchNormalization().apply(x);
  x = tf.layers.dropout({rate: 0.5}).apply(tf.layers.flatten().apply(x));
  let y = tf.layers.embedding({inputDim: 5, outputDim: 3}).apply(count);
  y = tf.layers.gru({units: 3}).apply(y);
  const joined = tf.layers.concatenate().apply([x, y]);
  const outputs = ['softmax', 'elu'].map((activation) =>
    tf.layers.dense({units: 2, activation, name: `by_${activation}`}).apply(joined));
  const model = tf.model({inputs: [image, count], outputs});
  model.setWeights(model.getWeights().map((each) => tf.randomUniform(each.shape, 0.1, 0.5, 'float32', 7)));
  await model.save(tf.io.withSaveHandler(async (artifacts) => {
    const {modelTopology, weightSpecs, weightData} = artifacts;
    const bytes = new Uint8Array(tf.io.CompositeArrayBuffer ? tf.io.CompositeArrayBuffer.join(weightData) : weightData);
    const middle = 100;  // the shards end within a weight
    write('made', 'model.weights.bin', bytes.slice(0, middle));
    write('made', 'rest.bin', bytes.slice(middle));
    const weightsManifest = [{paths: ['./model.weights.bin', 'rest.bin'], weights: weightSpecs}];
    const {format, generatedBy, convertedBy} = artifacts;
    write('made', 'model.json', JSON.stringify({modelTopology, format, generatedBy, convertedBy, weightsManifest}));
    return {modelArtifactsInfo: {dateSaved: new Date(), modelTopologyType: 'JSON'}};
  }));
  write('made', 'given.json', JSON.stringify({
    image: ['float32', tf.randomUniform([3, 6, 6, 3], 0, 1, 'float32', 3).arraySync()],
    count: ['int32', [[0, 1], [2, 3], [4, 0]]],
  }));
}

async function answer(folder) {
  const read = (name) => JSON.parse(fs.readFileSync(path.join(root, folder, name), 'utf8'));
  const artifacts = read('model.json');
  const parts = artifacts.weightsManifest.flatMap((group) => group.paths)
    .map((name) => fs.readFileSync(path.join(root, folder, name)));
  const weightSpecs = artifacts.weightsManifest.flatMap((group) => group.weights);
  const buffer = Buffer.concat(parts);
  const weightData = buffer.buffer.slice(buffer.byteOffset, buffer.byteOffset + buffer.byteLength);
  const handler = {load: async () => ({...artifacts, weightSpecs, weightData})};
  const given = {};
  for (const [name, [dtype, data]] of Object.entries(read('given.json'))) given[name] = tf.tensor(data, undefined, dtype);
  let names, results;
  if (artifacts.format === 'graph-model') {
    const model = await tf.loadGraphModel(handler);
    const signature = artifacts.signature;
    names = Object.keys(signature.outputs);
    const inputs = {};
    for (const [name, entry] of Object.entries(signature.inputs)) inputs[entry.name] = given[name];
    results = await model.executeAsync(inputs, names.map((name) => signature.outputs[name].name));
  } else {
    const model = await tf.loadLayersModel(handler);
    names = model.outputNames;
    results = model.predict(model.inputNames.map((name) => given[name]));
  }
  results = Array.isArray(results) ? results : [results];
  write(folder, 'answers.json', JSON.stringify(Object.fromEntries(
    names.map((name, index) => [name, [results[index].dtype, results[index].arraySync()]]))));
}

async function main() {
  await tf.setBackend('cpu');
  await make();
  for (const folder of fs.readdirSync(root)) await answer(folder);
}

main();
