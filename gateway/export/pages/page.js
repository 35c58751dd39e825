// The page of an exported model: it checks its results against the original's, and lets users try the model.
//
// The element #description holds the model's files, inputs and outputs; the global `runner` computes:
//   load(description, backend)  loads the model, again if it was loaded before
//   run(inputs, outputs)        {name: {datatype, shape, data}}, names -> {name: {shape, data}}
// For tests and other scripts: body[data-state] is "loading", "ready" or "failed", and data-runs counts answers.
'use strict';

const page = JSON.parse(document.getElementById('description').textContent);
const $ = (id) => document.getElementById(id);
const ARRAYS = {
  FP16: globalThis.Float16Array, FP32: Float32Array, FP64: Float64Array, INT8: Int8Array, INT16: Int16Array,
  INT32: Int32Array, INT64: BigInt64Array, UINT8: Uint8Array, UINT16: Uint16Array, UINT32: Uint32Array,
  UINT64: BigUint64Array, BOOL: Uint8Array,
};
const isFloat = (datatype) => datatype.startsWith('FP');
const MAX_SHOWN = 1000;  // values of an output

let runs = 0;
let queue = Promise.resolve();

/** Run work after all earlier work: a runner computes one thing at a time. */
function enqueue(work) {
  queue = queue.then(work).catch((error) => fail(error));
  return queue;
}

function fail(error) {
  document.body.dataset.state = 'failed';
  $('problem').hidden = false;
  $('problem').textContent = String(error && error.message || error);
}

function made(datatype, values) {
  const kind = ARRAYS[datatype];
  if (!kind) throw new Error(`this browser does not support ${datatype}: use a newer one`);
  return datatype.endsWith('INT64') ? kind.from(values, (value) => BigInt(value)) : kind.from(values, Number);
}

function tensor(datatype, shape, values) {
  return {datatype, shape, data: made(datatype, values)};
}

// ---- self-check

/** Return [largest difference, the same relative to the original's largest value], as the export's comparison does. */
function difference(expected, got, datatype) {
  const a = made(isFloat(datatype) ? 'FP64' : datatype, expected.data);
  if (String(expected.shape) !== String(got.shape)) return [Infinity, Infinity];
  let [largest, differing] = [0, 0];
  for (let i = 0; i < a.length; i++) {
    const [x, y] = [Number(a[i]), Number(got.data[i])];
    if (Object.is(x, y) || x === y) continue;
    differing++;
    const far = Math.abs(x - y);
    largest = Math.max(largest, Number.isNaN(far) ? Infinity : far);
  }
  if (!isFloat(datatype)) return [largest, a.length ? differing / a.length : 0];
  return [largest, largest ? largest / expected.scale : 0];
}

async function check(backend) {
  const inputs = {};
  for (const [name, each] of Object.entries(page.example.inputs)) {
    inputs[name] = tensor(each.datatype, each.shape, each.data);
  }
  const got = await runner.run(inputs, page.outputs.map((spec) => spec.name));
  let [absolute, relative] = [0, 0];
  for (const {name, datatype} of page.outputs) {
    const [far, part] = difference(page.example.outputs[name], got[name], datatype);
    absolute = Math.max(absolute, far);
    relative = Math.max(relative, part);
  }
  const verdict = relative <= page.example.tolerance ? 'ok' : 'differs';
  const text = absolute > 0 && absolute < 1e-3 ? absolute.toExponential(1) : absolute.toPrecision(2);
  Object.assign($('check').dataset, {verdict, backend, difference: absolute, relative});
  $('check').textContent = `this browser: max difference ${text} on backend ${backend}: ${verdict}`;
  if (verdict === 'differs') {
    $('check').textContent += ` (more than ${page.example.tolerance} of the largest value: do not trust it here)`;
  }
  return verdict;
}

async function start(backend) {
  document.body.dataset.state = 'loading';
  $('problem').hidden = true;
  delete $('check').dataset.verdict;
  $('check').textContent = `loading, backend ${backend} …`;
  await runner.load(page, backend);
  return check(backend);
}

/** Start the first backend that works and passes the check. A backend that the user chose starts even if it fails the check. */
async function startAny() {
  const asked = new URLSearchParams(location.search).get('backend');
  const choices = asked ? [asked] : page.backends;
  let problem;
  for (const backend of choices) {
    try {
      $('backend').value = backend;
      if (await start(backend) === 'ok' || backend === choices[choices.length - 1]) return;
    } catch (error) {
      problem = new Error(`the model cannot be run on backend ${backend} here: ${error.message || error}`);
    }
  }
  throw problem;
}

// ---- images

function size() {
  const [height, width] = page.preprocess.size;
  return [width, height];
}

function canvasPixels() {
  const canvas = $('canvas');
  return canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
}

function showSeen(seen) {
  const canvas = $('seen');
  [canvas.width, canvas.height] = [seen.width, seen.height];
  const context = canvas.getContext('2d');
  const image = context.createImageData(seen.width, seen.height);
  for (let i = 0; i < seen.width * seen.height; i++) {
    for (let c = 0; c < 3; c++) image.data[4 * i + c] = seen.data[i * seen.channels + (seen.channels === 3 ? c : 0)];
    image.data[4 * i + 3] = 255;
  }
  context.putImageData(image, 0, 0);
}

async function classify(pixels) {
  const [spec] = page.inputs;
  const seen = fitted(pixels, page.preprocess);
  showSeen(seen);
  const [height, width] = page.preprocess.size;
  const count = seen.channels;
  const shape = {
    NCHW: [1, count, height, width], NHWC: [1, height, width, count], NHW: [1, height, width],
    flat: [1, height * width * count],
  }[page.preprocess.layout];
  const input = tensor(spec.datatype, shape, values(seen, page.preprocess, !isFloat(spec.datatype)));
  const answer = await timed({[spec.name]: input}, $('time'));
  if (page.postprocess) showLabels(answer[page.postprocess.output]);
  else showOutputs(answer);
  done();
}

/** Run the model, and show in `element` how long it took. */
async function timed(inputs, element) {
  const before = performance.now();
  const answer = await runner.run(inputs, page.outputs.map((spec) => spec.name));
  element.textContent = `in ${(performance.now() - before).toFixed(1)} ms`;
  return answer;
}

function done() {
  document.body.dataset.runs = ++runs;
  document.body.dataset.state = 'ready';
}

function showLabels(output) {
  let scores = Array.from(output.data, Number);
  if (page.postprocess.softmax) {
    const most = Math.max(...scores);
    const powers = scores.map((score) => Math.exp(score - most));
    const sum = powers.reduce((a, b) => a + b, 0);
    scores = powers.map((power) => power / sum);
  }
  const rank = (index) => Number.isNaN(scores[index]) ? -Infinity : scores[index];
  const best = scores.map((_, index) => index).sort((a, b) => rank(b) - rank(a) || a - b);
  const shown = best.slice(0, page.postprocess.top_k);
  const likely = scores.every((score) => score >= 0 && score <= 1.000001);
  const scale = likely ? 1 : Math.max(...shown.map((index) => Math.abs(scores[index])), 1e-30);
  $('results').dataset.top = shown[0];
  $('results').replaceChildren(...shown.map((index) => {
    const row = document.createElement('li');
    Object.assign(row.dataset, {index, score: scores[index]});
    const label = page.labels[index] ?? String(index);
    const scoreText = likely ? `${(100 * scores[index]).toFixed(2)} %` : scores[index].toPrecision(4);
    for (const [name, text] of [['label', label], ['track', ''], ['score', scoreText]]) {
      const part = row.appendChild(document.createElement('span'));
      part.className = name;
      part.textContent = text;
    }
    const fill = row.querySelector('.track').appendChild(document.createElement('span'));
    fill.className = 'fill';
    fill.style.width = `${Math.max(0, 100 * scores[index] / scale)}%`;
    return row;
  }));
}

function blank() {
  const canvas = $('canvas');
  const context = canvas.getContext('2d', {willReadFrequently: true});
  context.fillStyle = '#fff';
  context.fillRect(0, 0, canvas.width, canvas.height);
}

function preparePicture() {
  const canvas = $('canvas');
  const [width, height] = size();
  canvas.height = Math.max(80, Math.min(560, Math.round(canvas.width * height / width)));
  $('picture').hidden = false;
  $('exactness').hidden = false;
  $('answer').hidden = Boolean(page.postprocess);
  blank();
  const context = canvas.getContext('2d');
  let drawing = false;
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return [(event.clientX - box.left) * canvas.width / box.width, (event.clientY - box.top) * canvas.height / box.height];
  };
  canvas.addEventListener('pointerdown', (event) => {
    drawing = true;
    canvas.setPointerCapture(event.pointerId);
    Object.assign(context, {lineWidth: canvas.width / 11, lineCap: 'round', lineJoin: 'round', strokeStyle: '#000'});
    context.beginPath();
    context.moveTo(...at(event));
    context.lineTo(...at(event));
    context.stroke();
  });
  canvas.addEventListener('pointermove', (event) => {
    if (!drawing) return;
    context.lineTo(...at(event));
    context.stroke();
  });
  for (const kind of ['pointerup', 'pointercancel']) {
    canvas.addEventListener(kind, () => {
      if (drawing) enqueue(() => classify(canvasPixels()));
      drawing = false;
    });
  }
  $('clear').addEventListener('click', () => {
    blank();
    $('results').replaceChildren();
    delete $('results').dataset.top;
    $('time').textContent = '';
  });
  $('file').addEventListener('change', () => {
    const [file] = $('file').files;
    $('file').value = '';  // so that the same file can be chosen again
    if (file) enqueue(() => upload(file));
  });
  for (const kind of ['dragover', 'dragleave', 'drop']) {
    canvas.addEventListener(kind, (event) => {
      event.preventDefault();
      canvas.classList.toggle('over', kind === 'dragover');
      const [file] = event.dataTransfer.files;  // empty until the file is dropped, and after that
      if (kind === 'drop' && file) enqueue(() => upload(file));
    });
  }
}

async function upload(file) {
  let image;
  try {
    image = await createImageBitmap(file, {imageOrientation: 'from-image', colorSpaceConversion: 'none'});
  } catch {
    throw new Error(`this browser cannot read ${file.name} as an image: choose a PNG or a JPEG`);
  }
  const whole = new OffscreenCanvas(image.width, image.height).getContext('2d', {willReadFrequently: true});
  whole.fillStyle = '#fff';
  whole.fillRect(0, 0, image.width, image.height);
  whole.drawImage(image, 0, 0);
  blank();
  const canvas = $('canvas');
  const scale = Math.min(canvas.width / image.width, canvas.height / image.height);
  const [width, height] = [image.width * scale, image.height * scale];
  const context = canvas.getContext('2d');
  context.imageSmoothingEnabled = scale < 1;
  context.drawImage(image, (canvas.width - width) / 2, (canvas.height - height) / 2, width, height);
  $('problem').hidden = true;
  await classify(whole.getImageData(0, 0, image.width, image.height));
}

// ---- numbers

function nested(data, shape) {
  let rows = Array.from(data, (value) => typeof value === 'bigint' ? Number(value) : value);
  for (const size of shape.slice(1).reverse()) {
    const count = size ? rows.length / size : 0;
    rows = Array.from({length: count}, (_, index) => rows.slice(index * size, (index + 1) * size));
  }
  return shape.length ? rows : rows[0];
}

/** Return JSON with one innermost list per line. */
function written(value, indent = '') {
  if (!Array.isArray(value) || !value.some(Array.isArray)) return JSON.stringify(value);
  return `[\n${value.map((each) => `${indent} ${written(each, `${indent} `)}`).join(',\n')}\n${indent}]`;
}

function shapeOf(value) {
  const shape = [];
  for (; Array.isArray(value); value = value[0]) shape.push(value.length);
  return shape;
}

function parsed() {
  let given;
  try {
    given = JSON.parse($('inputs').value);
  } catch (error) {
    throw new Error(`the inputs are not valid JSON: ${error.message}`);
  }
  return Object.fromEntries(page.inputs.map(({name, datatype, shape}) => {
    if (given === null || given[name] === undefined) throw new Error(`input "${name}" is missing`);
    const got = shapeOf(given[name]);
    const flat = [given[name]].flat(Infinity);
    const fits = got.length === shape.length && got.every((size, axis) => [-1, size].includes(shape[axis]));
    if (!fits || flat.length !== got.reduce((a, b) => a * b, 1)) {
      throw new Error(`"${name}" has shape [${got}], or its lists are uneven; expected [${shape}]`);
    }
    return [name, tensor(datatype, got, flat)];
  }));
}

function showOutputs(answer) {
  $('answer').hidden = false;
  $('outputs').textContent = page.outputs.map(({name}) => {
    const {shape, data} = answer[name];
    const all = data.length <= MAX_SHOWN;
    const values = all ? written(nested(data, shape)) : `${JSON.stringify(nested(data.slice(0, MAX_SHOWN), [MAX_SHOWN]))} …`;
    return `${name} [${shape}]${all ? '' : `, the first ${MAX_SHOWN} values`}\n${values}`;
  }).join('\n\n');
}

function prepareNumbers() {
  $('numbers').hidden = false;
  const parts = Object.entries(page.example.inputs).map(
    ([name, each]) => ` ${JSON.stringify(name)}: ${written(nested(each.data, each.shape), ' ')}`);
  $('inputs').value = `{\n${parts.join(',\n')}\n}`;
  $('run').addEventListener('click', () => enqueue(async () => {
    $('problem').hidden = true;
    showOutputs(await timed(parsed(), $('took')));
    done();
  }));
}

// ---- the page

function showInterface() {
  for (const [kind, specs] of [['input', page.inputs], ['output', page.outputs]]) {
    for (const {name, datatype, shape} of specs) {
      const row = $('interface').insertRow();
      for (const text of [kind, name, datatype, `[${shape.join(', ')}]`]) row.insertCell().textContent = text;
    }
  }
  for (const backend of page.backends) $('backend').add(new Option(backend));
  $('chooser').hidden = page.backends.length < 2;
}

async function main() {
  showInterface();
  if (location.protocol === 'file:') {
    throw new Error('This page cannot load its model because it was opened as a file. In this folder, run\n\n' +
      'python3 -m http.server\n\nand open http://localhost:8000');
  }
  const answer = await fetch('example.json');
  if (!answer.ok) throw new Error('example.json is missing next to this page: copy the whole folder');
  page.example = await answer.json();
  if (page.preprocess) preparePicture();
  else prepareNumbers();
  $('backend').addEventListener('change', () => enqueue(async () => {
    await start($('backend').value);
    document.body.dataset.state = 'ready';
  }));
  await startAny();
  document.body.dataset.state = 'ready';
}

enqueue(main);
