// Values of tensors as JSON text, which is what a request contains. The text is never parsed and written again, because
// JavaScript would round large integers, and has no NaN in JSON.

/** What a table of the server has for a name. Every object of JavaScript seems to have one for "constructor", say. */
export const entry = (table, name) => (Object.hasOwn(table, name) ? table[name] : undefined);

/** The number of values in a shape with fixed sizes. */
export const count = (shape) => shape.reduce((product, size) => product * size, 1);

// Strings, numbers, and the words that JSON lacks.
const TOKENS = /"(?:\\.|[^"\\])*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|NaN|-?Infinity/g;
// JSON.parse would refuse or round these: the words, and integers of more than 15 digits.
const isSpecial = (token) => /^(NaN|-?Infinity|-?\d{16,})$/.test(token);

/** Parse JSON of the server or of the user. NaN, infinities and large integers become strings of the same letters. */
export function parse(text) {
  return JSON.parse(text.replace(TOKENS, (token) => (isSpecial(token) ? `"${token}"` : token)));
}

/** Whether JavaScript can parse the text and write it again without a change. */
export const isPlain = (text) => ![...text.matchAll(TOKENS)].some(([token]) => isSpecial(token));

/** The same text as an expression of Python. */
export function python(text) {
  const words = { true: "True", false: "False", null: "None", NaN: 'float("nan")', Infinity: 'float("inf")', "-Infinity": 'float("-inf")' };
  return text.replace(/"(?:\\.|[^"\\])*"|-?Infinity|NaN|true|false|null/g, (token) => {
    return token.startsWith('"') ? JSON.stringify(JSON.parse(token)) : words[token]; // Python lacks some of JSON's escapes
  }).trim();
}

/** The shape of nested lists; [] for a single value. */
export function shapeOf(value) {
  const shape = [];
  for (let part = value; Array.isArray(part); part = part[0]) shape.push(part.length);
  return shape;
}

/** The datatype that the server would assume for a value, if the model does not say. */
export function datatypeOf(value) {
  const flat = [value].flat(Infinity);
  if (flat.every((each) => typeof each === "boolean")) return "BOOL";
  if (flat.every((each) => Number.isInteger(each) || /^-?\d+$/.test(each))) return "INT64";
  return flat.every((each) => typeof each === "number" || /^(NaN|-?Infinity)$/.test(each)) ? "FP32" : "BYTES";
}

/** Write a flat list of texts as nested lists of this shape, with a line for each innermost list. */
export function nested(texts, shape) {
  if (!shape.length) return texts[0];
  const write = (depth, from, step) => {
    const size = shape[depth];
    if (depth === shape.length - 1) return `[${texts.slice(from, from + size).join(", ")}]`;
    const inner = step / size;
    const parts = Array.from({ length: size }, (_, i) => write(depth + 1, from + i * inner, inner));
    return size === 1 ? `[${parts[0]}]` : `[\n${" ".repeat(depth + 1)}${parts.join(`,\n${" ".repeat(depth + 1)}`)}\n${" ".repeat(depth)}]`;
  };
  return write(0, 0, count(shape));
}

// Sizes that a model leaves open: one row, and for the rest a few.
const OPEN = 4;

/** A shape with fixed sizes for a tensor of a signature; null if its rank is not known. */
export function fixed(spec, batchDim) {
  return spec.shape && spec.shape.map((size, i) => (size !== -1 ? size : i === (batchDim ?? 0) ? 1 : OPEN));
}

/** An example of a tensor, as JSON text. Integers are 0 and 1, since they are often indices of a small table. */
export function example(spec, batchDim) {
  const shape = fixed(spec, batchDim) ?? [1, OPEN];
  const value = (i) => {
    if (spec.datatype === "BYTES") return '"text"';
    if (spec.datatype === "BOOL") return i % 2 ? "false" : "true";
    if (/INT/.test(spec.datatype)) return /mask/i.test(spec.name) ? "1" : String(i % 2);
    return String(((i * 37) % 100) / 100);
  };
  return nested(Array.from({ length: count(shape) }, (_, i) => value(i)), shape);
}

// numpy's type string without its byte order → the typed array, and the datatype.
const NPY = {
  b1: [Uint8Array, "BOOL"], u1: [Uint8Array, "UINT8"], u2: [Uint16Array, "UINT16"], u4: [Uint32Array, "UINT32"], u8: [BigUint64Array, "UINT64"],
  i1: [Int8Array, "INT8"], i2: [Int16Array, "INT16"], i4: [Int32Array, "INT32"], i8: [BigInt64Array, "INT64"],
  f4: [Float32Array, "FP32"], f8: [Float64Array, "FP64"],
};

/** Read a .npy file: {shape, datatype, text}. `text` is null if it has another type. Throws an Error with a sentence. */
export function readNpy(buffer) {
  const bytes = new Uint8Array(buffer);
  if (bytes.length < 12 || new TextDecoder("latin1").decode(bytes.subarray(1, 6)) !== "NUMPY") throw new Error("this is not a .npy file");
  const view = new DataView(buffer);
  const [length, start] = bytes[6] === 1 ? [view.getUint16(8, true), 10] : [view.getUint32(8, true), 12];
  const header = new TextDecoder("latin1").decode(bytes.subarray(start, start + length));
  const [, order, kind] = header.match(/'descr':\s*'([<>|=])(\w+)'/) ?? [];
  const shape = (header.match(/'shape':\s*\(([^)]*)\)/)?.[1] ?? "").split(",").filter((part) => part.trim()).map(Number);
  const [array, datatype] = NPY[kind] ?? [null, kind === "f2" ? "FP16" : ""];
  const readable = array && order !== ">" && /'fortran_order':\s*False/.test(header);
  if (!readable) return { shape, datatype, text: null };
  const data = buffer.slice(start + length, start + length + count(shape) * array.BYTES_PER_ELEMENT);
  if (data.byteLength < count(shape) * array.BYTES_PER_ELEMENT) throw new Error("this .npy file is cut off");
  const values = new array(data);
  const write = datatype === "BOOL" ? (value) => String(value !== 0) : String;
  return { shape, datatype, text: nested(Array.from(values, write), shape) };
}
