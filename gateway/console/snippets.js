// The request of the form as programs: curl, tritonclient, Python and JavaScript. They read the key from a variable of
// the environment, never from their text.

import { datatypeOf, isPlain, parse, python } from "./values.js";

const KEY = "MODELPORT_API_KEY";
const DTYPES = {
  BOOL: "np.bool_", UINT8: "np.uint8", UINT16: "np.uint16", UINT32: "np.uint32", UINT64: "np.uint64", INT8: "np.int8",
  INT16: "np.int16", INT32: "np.int32", INT64: "np.int64", FP16: "np.float16", FP32: "np.float32", FP64: "np.float64", BYTES: "np.object_",
  BF16: "ml_dtypes.bfloat16",
};
// Datatypes that tritonclient does not know.
const UNKNOWN_TO_TRITON = ["FP8_E4M3FN", "FP8_E5M2", "INT4", "UINT4"];

/**
 * A request of the form.
 *
 * origin, model, version  where it goes
 * hasKey                  whether it is sent with a key
 * inputs                  [{name, datatype, text, file}] unless it is an image; `file` is the .npy file of an input, or ""
 * signature, outputs      "" and [] for the default ones
 * sequence                {id, start, end}, with the id as JSON text, of a model of sequences; else null
 * file                    {kind, name, type} if the body is a file: an "image", "npy", or "json" that is too long to be shown
 */

/** The body of a request in JSON. */
export function jsonBody({ inputs, signature, outputs, sequence }) {
  const parts = [`"inputs": {${inputs.map(({ name, text }) => `${JSON.stringify(name)}: ${text.trim()}`).join(", ")}}`];
  if (signature) parts.push(`"signature": ${JSON.stringify(signature)}`);
  if (outputs.length) parts.push(`"outputs": ${JSON.stringify(outputs)}`);
  if (sequence) parts.push(`"parameters": {"sequence_id": ${sequence.id}, "sequence_start": ${sequence.start}, "sequence_end": ${sequence.end}}`);
  return `{${parts.join(", ")}}`;
}

export const path = ({ model, version }) => `/predict/${encodeURIComponent(model)}/versions/${encodeURIComponent(version)}`;
export const contentType = ({ file }) => file?.type || "application/json";

const url = (request) => request.origin + path(request);
const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

export function curl(request) {
  const lines = [`curl --fail-with-body ${quoted(url(request))}`, `  -H ${quoted(`Content-Type: ${contentType(request)}`)}`];
  if (request.hasKey) lines.push(`  -H "Authorization: Bearer $${KEY}"`);
  lines.push(request.file ? `  --data-binary ${quoted(`@${request.file.name}`)}` : `  --data-binary ${quoted(jsonBody(request))}`);
  return `${lines.join(" \\\n")}\n`;
}

export function withPython(request) {
  const text = request.file ? "" : jsonBody(request);
  const asJson = !request.file && isPlain(text);
  const headers = asJson ? [] : [`"Content-Type": ${JSON.stringify(contentType(request))}`];
  if (request.hasKey) headers.push(`"Authorization": "Bearer " + os.environ["${KEY}"]`);
  // What is not plain has NaN, which httpx refuses to write.
  const body = asJson ? `json=${python(text)}` : `content=${request.file ? "body" : JSON.stringify(text)}`;
  return [
    ...(request.hasKey ? ["import os", ""] : []),
    "import httpx",
    "",
    ...(request.file ? [`with open(${JSON.stringify(request.file.name)}, "rb") as file:`, "    body = file.read()", ""] : []),
    "response = httpx.post(",
    `    ${JSON.stringify(url(request))},`,
    `    ${body},`,
    ...(headers.length ? [`    headers={${headers.join(", ")}},`] : []),
    "    timeout=60,",
    ")",
    "response.raise_for_status()",
    "print(response.json())",
    "",
  ].join("\n");
}

export function withJavaScript(request) {
  const headers = [`"Content-Type": ${JSON.stringify(contentType(request))}`];
  if (request.hasKey) headers.push(`Authorization: \`Bearer \${process.env.${KEY}}\``);
  const text = request.file ? "" : jsonBody(request);
  const isLiteral = isPlain(text) && !text.includes('"__proto__":'); // which a literal would not have as a key
  const body = request.file ? `await readFile(${JSON.stringify(request.file.name)})` : isLiteral ? `JSON.stringify(${text})` : JSON.stringify(text);
  return [
    ...(request.file ? ['import { readFile } from "node:fs/promises";', ""] : []),
    `const response = await fetch(${JSON.stringify(url(request))}, {`,
    '  method: "POST",',
    `  headers: { ${headers.join(", ")} },`,
    `  body: ${body},`,
    "});",
    "if (!response.ok) throw new Error(await response.text());",
    ...(request.file || isPlain(text)
      ? ["const answer = await response.json();", "console.log(JSON.stringify(answer));"]
      : ["console.log(await response.text()); // it may have NaN, or integers that JavaScript would round"]),
    "",
  ].join("\n");
}

/** null if the request has an image, or a datatype, that tritonclient cannot send. */
export function tritonclient(request) {
  if (request.file?.kind === "image" || lacking(request)) return null;
  const fromFile = request.file?.kind === "json";
  const server = request.origin.replace(/^https?:\/\//, "");
  const options = [`model_version=${JSON.stringify(request.version)}`];
  if (request.outputs.length) options.push(`outputs=[${request.outputs.map((name) => `triton.InferRequestedOutput(${JSON.stringify(name)})`).join(", ")}]`);
  if (request.signature) options.push(`parameters={"signature": ${JSON.stringify(request.signature)}}`);
  if (request.hasKey) options.push(`headers={"Authorization": "Bearer " + os.environ["${KEY}"]}`);
  if (request.sequence) {
    const { id, start, end } = request.sequence;
    options.push(`sequence_id=${id}`, `sequence_start=${python(String(start))}`, `sequence_end=${python(String(end))}`);
  }
  const tensors = request.inputs.map((input) => tensor(input, fromFile));
  const standard = [
    ...(tensors.some(({ value }) => value.includes("base64.")) ? ["import base64"] : []),
    ...(fromFile ? ["import json"] : []),
    ...(request.hasKey ? ["import os"] : []),
  ];
  return [
    ...(standard.length ? [...standard, ""] : []),
    ...(tensors.some(({ value }) => value.includes("ml_dtypes.")) ? ["import ml_dtypes"] : []),
    "import numpy as np",
    "import tritonclient.http as triton",
    "",
    ...(fromFile ? [`with open(${JSON.stringify(request.file.name)}) as file:`, '    values = json.load(file)["inputs"]', ""] : []),
    `client = triton.InferenceServerClient(${JSON.stringify(server)}${request.origin.startsWith("https:") ? ", ssl=True" : ""})`,
    "inputs = []",
    ...tensors.flatMap(({ name, datatype, value }) => [
      `data = ${value}`,
      `inputs.append(triton.InferInput(${JSON.stringify(name)}, list(data.shape), "${datatype}"))`,
      "inputs[-1].set_data_from_numpy(data)",
    ]),
    `result = client.infer(${JSON.stringify(request.model)}, inputs, ${options.join(", ")})`,
    'for output in result.get_response()["outputs"]:',
    '    print(output["name"], result.as_numpy(output["name"]).tolist())',
    "",
  ].join("\n");
}

/** A datatype of the request that tritonclient does not know, if there is one. */
function lacking(request) {
  return request.inputs.map(({ datatype }) => datatype).find((datatype) => UNKNOWN_TO_TRITON.includes(datatype));
}

/** An input as an expression of numpy. */
function tensor({ name, datatype, text, file }, fromFile) {
  const known = datatype || datatypeOf(parse(text));
  if (file) return { name, datatype: known, value: `np.load(${JSON.stringify(file)})` };
  const bytes = (code) => code.replace(/\{\s*"b64"\s*:\s*("[^"]*")\s*\}/g, "base64.b64decode($1)");
  const values = fromFile ? `values[${JSON.stringify(name)}]` : known === "BYTES" ? bytes(python(text)) : python(text);
  return { name, datatype: known, value: `np.array(${values}, dtype=${DTYPES[known]})` };
}

/** Why there is no program for tritonclient. */
function withoutTritonclient(request) {
  if (lacking(request)) return `tritonclient does not know the datatype ${lacking(request)}.`;
  return "tritonclient sends tensors, and only /predict accepts images. Choose JSON or a .npy file as the input to see it.";
}

/** Title and text of each program; the text is null if there is none, and `why` says why. */
export function programs(request) {
  return [
    { title: "curl", text: curl(request) },
    { title: "tritonclient", text: tritonclient(request), why: withoutTritonclient(request) },
    { title: "Python", text: withPython(request) },
    { title: "JavaScript", text: withJavaScript(request) },
  ];
}
