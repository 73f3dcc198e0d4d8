// The model, run by LiteRT.js.

import { loadAndCompile, loadLiteRt, Tensor } from "./litertjs/core/dist/index.js";

/** The model's facts. */
export async function loadFacts() {
  return (await fetched("model.json")).json();
}

/**
 * Loads LiteRT.js and the model.
 *
 * @param facts From `loadFacts`.
 * @param onProgress Called with the share of the model's bytes that have come.
 * @returns Function from the two inputs of `preprocess` to {probabilities, milliseconds}; it throws where the logits are
 *     not finite.
 * @throws Error whose message tells people what could not be loaded.
 */
export async function loadModel(facts, onProgress) {
  const [bytes] = await Promise.all([
    download("model.tflite", onProgress),
    loadLiteRt("litertjs/core/wasm/").catch((error) => {
      throw new Error(`LiteRT.js does not run in this browser (${reason(error)}); try a newer one.`);
    }),
  ]);
  let model;
  try {
    model = await loadAndCompile(bytes, { accelerator: "wasm" });
  } catch (error) {
    throw new Error(`model.tflite is no model that LiteRT.js can run (${reason(error)}); write the page again.`);
  }
  return (inputs) => run(model, inputs, facts);
}

async function run(model, inputs, facts) {
  const started = performance.now();
  const tensors = inputs.map((input, i) => new Tensor(input, [1, ...facts.imageSizes[i], facts.channels]));
  const named = Object.fromEntries(facts.inputNames.map((name, i) => [name, tensors[i]]));
  let outputs = {};
  try {
    outputs = await model.run(facts.signature, named);
    const logits = Array.from(await outputs[facts.outputName].data());
    const milliseconds = performance.now() - started;
    if (!logits.every(Number.isFinite)) {
      throw new Error("The model's logits are not finite, so it names nothing; check its weights and write the page again.");
    }
    return { probabilities: probabilitiesOf(logits, facts.activation), milliseconds };
  } finally {
    for (const tensor of [...tensors, ...Object.values(outputs)]) tensor.delete();
  }
}

function probabilitiesOf(logits, activation) {
  if (activation === "sigmoid") return logits.map((logit) => 1 / (1 + Math.exp(-logit)));
  const largest = logits.reduce((a, b) => Math.max(a, b));
  const odds = logits.map((logit) => Math.exp(logit - largest));
  const sum = odds.reduce((a, b) => a + b);
  return odds.map((each) => each / sum);
}

async function download(path, onProgress) {
  const answer = await fetched(path);
  const total = Number(answer.headers.get("Content-Length"));
  const chunks = [];
  let length = 0;
  const reader = answer.body.getReader();
  for (let next = await reader.read(); !next.done; next = await reader.read()) {
    chunks.push(next.value);
    length += next.value.length;
    if (total) onProgress(Math.min(length / total, 1));
  }
  return new Uint8Array(await new Blob(chunks).arrayBuffer());
}

async function fetched(path) {
  let answer;
  try {
    answer = await fetch(path);
  } catch {
    throw new Error(`${path} cannot be loaded: the server does not answer; load the page again.`);
  }
  if (!answer.ok) throw new Error(`${path} cannot be loaded: the server answers ${answer.status}; write the page again.`);
  return answer;
}

function reason(error) {
  return String(error?.message ?? error?.type ?? error).split("\n")[0];
}
