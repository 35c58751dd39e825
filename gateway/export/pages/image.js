// Converts an image's pixels to the values of an input, in the same steps as gateway/codecs/images.py does with Pillow.
// The width is always scaled first. Pillow 13 and later scale the height first for some images, so roundings differ.
'use strict';

// Pillow's filters: [reach, weight at a distance].
const FILTERS = {
  box: [0.5, (x) => (x > -0.5 && x <= 0.5 ? 1 : 0)],
  bilinear: [1, (x) => Math.max(0, 1 - Math.abs(x))],
  bicubic: [2, (x) => {
    const a = -0.5;
    x = Math.abs(x);
    if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
  }],
  lanczos: [3, (x) => (x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0)],
};
const PRECISION = 2 ** 22;  // of Pillow's fixed-point weights

function sinc(x) {
  return x === 0 ? 1 : Math.sin(x * Math.PI) / (x * Math.PI);
}

/** Round to the nearest integer, halves to even, like Python's round. */
function rint(x) {
  const down = Math.floor(x);
  if (x - down !== 0.5) return Math.round(x);
  return down % 2 ? down + 1 : down;
}

/** Return {width, height, channels, data} in RGB, or in gray by Pillow's weights. `image` is RGBA on white. */
function colored(image, gray) {
  const count = image.width * image.height;
  const channels = gray ? 1 : 3;
  const data = new Uint8Array(count * channels);
  for (let i = 0; i < count; i++) {
    const [r, g, b] = [image.data[4 * i], image.data[4 * i + 1], image.data[4 * i + 2]];
    if (gray) {
      data[i] = (r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16;
    } else {
      data[3 * i] = r;
      data[3 * i + 1] = g;
      data[3 * i + 2] = b;
    }
  }
  return {width: image.width, height: image.height, channels, data};
}

/** Return [index of the first weighted pixel, weights] for each pixel of the result. */
function weights(inSize, start, end, outSize, [reach, filter]) {
  const scale = Math.fround(end - start) / outSize;
  const wide = Math.max(scale, 1);
  const found = [];
  for (let index = 0; index < outSize; index++) {
    const center = start + (index + 0.5) * scale;
    const first = Math.max(0, Math.trunc(center - reach * wide + 0.5));
    const last = Math.min(inSize, Math.trunc(center + reach * wide + 0.5));
    const raw = [];
    for (let x = first; x < last; x++) raw.push(filter((x - center + 0.5) * (1 / wide)));
    const sum = raw.reduce((a, b) => a + b, 0);
    const fixed = raw.map((weight) => {
      const value = (sum ? weight / sum : weight) * PRECISION;
      return Math.trunc(value < 0 ? value - 0.5 : value + 0.5);
    });
    found.push([first, fixed]);
  }
  return found;
}

function level(sum) {
  return Math.min(255, Math.max(0, Math.floor((sum + PRECISION / 2) / PRECISION)));
}

function scaledAcross(image, width, left, right, filter) {
  const {height, channels} = image;
  const data = new Uint8Array(width * height * channels);
  weights(image.width, left, right, width, filter).forEach(([first, fixed], x) => {
    for (let y = 0; y < height; y++) {
      for (let c = 0; c < channels; c++) {
        let sum = 0;
        let at = (y * image.width + first) * channels + c;
        for (let k = 0; k < fixed.length; k++, at += channels) sum += image.data[at] * fixed[k];
        data[(y * width + x) * channels + c] = level(sum);
      }
    }
  });
  return {width, height, channels, data};
}

function scaledDown(image, height, top, bottom, filter) {
  const row = image.width * image.channels;
  const data = new Uint8Array(row * height);
  weights(image.height, top, bottom, height, filter).forEach(([first, fixed], y) => {
    for (let i = 0; i < row; i++) {
      let sum = 0;
      for (let k = 0, at = first * row + i; k < fixed.length; k++, at += row) sum += image.data[at] * fixed[k];
      data[y * row + i] = level(sum);
    }
  });
  return {width: image.width, height, channels: image.channels, data};
}

/** Return the indices of the pixels that "nearest" picks along a side. Pillow sums the steps too, so roundings agree. */
function nearest(start, end, outSize, inSize) {
  const step = Math.fround(end - start) / outSize;
  const indices = [];
  for (let i = 0, at = start + step * 0.5; i < outSize; i++, at += step) {
    indices.push(Math.min(inSize - 1, Math.max(0, Math.trunc(at))));
  }
  return indices;
}

function resized(image, width, height, interpolation, box = [0, 0, image.width, image.height]) {
  const [left, top, right, bottom] = box.map(Math.fround);
  if (interpolation === 'nearest') {
    const xs = nearest(left, right, width, image.width);
    const ys = nearest(top, bottom, height, image.height);
    const {channels} = image;
    const data = new Uint8Array(width * height * channels);
    let at = 0;
    for (const y of ys) {
      for (const x of xs) {
        for (let c = 0; c < channels; c++) data[at++] = image.data[(y * image.width + x) * channels + c];
      }
    }
    return {width, height, channels, data};
  }
  const filter = FILTERS[interpolation];
  let made = image;
  if (width !== image.width || left || right !== width) made = scaledAcross(made, width, left, right, filter);
  if (height !== image.height || top || bottom !== height) made = scaledDown(made, height, top, bottom, filter);
  return made;
}

/** Return the box that "crop" cuts out of an image of this width and height, in pixels of the image. */
function cropBox(size, [height, width], shorterSide) {
  let scaled;
  if (shorterSide) {
    scaled = size.map((side) => Math.floor(shorterSide * side / Math.min(...size)));
  } else if (width * size[1] >= height * size[0]) {
    scaled = [width, Math.max(height, Math.floor(width * size[1] / size[0]))];
  } else {
    scaled = [Math.max(width, Math.floor(height * size[0] / size[1])), height];
  }
  const [x, y] = [0, 1].map((axis) => {
    const start = rint((scaled[axis] - [width, height][axis]) / 2);
    const to = (position) => position * size[axis] / scaled[axis];
    return [to(start), Math.min(to(start + [width, height][axis]), size[axis])];
  });
  return [x[0], y[0], x[1], y[1]];
}

function padded(image, config) {
  const [height, width] = config.size;
  const scale = Math.min(width / image.width, height / image.height);
  const [w, h] = [[image.width, width], [image.height, height]].map(
    ([side, most]) => Math.min(most, Math.max(1, rint(side * scale))));
  const inner = resized(image, w, h, config.interpolation);
  const {channels} = image;
  const data = new Uint8Array(width * height * channels).fill(config.fill);
  const [left, top] = [Math.floor((width - w) / 2), Math.floor((height - h) / 2)];
  for (let y = 0; y < h; y++) {
    const row = inner.data.subarray(y * w * channels, (y + 1) * w * channels);
    data.set(row, ((top + y) * width + left) * channels);
  }
  return {width, height, channels, data};
}

/** Return the image as the model sees it, in levels from 0 to 255. */
function fitted(image, config) {
  const [height, width] = config.size;
  const plain = colored(image, config.color === 'GRAY');
  if (config.resize === 'pad') return padded(plain, config);
  const box = config.resize === 'crop' ? cropBox([plain.width, plain.height], config.size, config.shorter_side)
    : undefined;
  return resized(plain, width, height, config.interpolation, box);
}

/** Return the values of one row. `whole` rounds them, for integer inputs. */
function values(seen, config, whole) {
  const {channels} = seen;
  const count = seen.width * seen.height;
  const made = new Float64Array(count * channels);
  for (let i = 0; i < count; i++) {
    for (let c = 0; c < channels; c++) {
      const raw = seen.data[i * channels + (config.color === 'BGR' ? 2 - c : c)];
      const value = ((config.invert ? 255 - raw : raw) * config.scale - config.mean[c]) / config.std[c];
      made[config.layout === 'NCHW' ? c * count + i : i * channels + c] = whole ? rint(value) : value;
    }
  }
  return made;
}

if (typeof module !== 'undefined') module.exports = {fitted, values};
