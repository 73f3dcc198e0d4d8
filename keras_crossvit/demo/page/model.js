// Loads the model and runs it with LiteRT.js.

import { loadAndCompile, loadLiteRt, Tensor } from "./litertjs/core/dist/index.js";

/** Loads model.json, the facts about the model. */
export async function loadConfig() {
  return (await fetchFile("model.json")).json();
}

/**
 * Loads LiteRT.js and the model.
 *
 * @param config From `loadConfig`.
 * @param onProgress Called with the fraction of the model that is loaded.
 * @returns Function from the pixels of `preprocess` to {probabilities, explanation, milliseconds}; it throws if the
 *     logits are not finite. The explanation is a list of the values of both grids, or empty.
 * @throws Error with a message for visitors.
 */
export async function loadModel(config, onProgress) {
  const [bytes] = await Promise.all([
    download("model.tflite", onProgress),
    loadLiteRt("litertjs/core/wasm/").catch((error) => {
      throw new Error(`LiteRT.js does not run in this browser (${reason(error)}). Try a newer browser.`);
    }),
  ]);
  let model;
  try {
    model = await loadAndCompile(bytes, { accelerator: "wasm" });
  } catch (error) {
    throw new Error(`LiteRT.js cannot run model.tflite (${reason(error)}). Create the page again.`);
  }
  return (pixels) => run(model, pixels, config);
}

async function run(model, pixels, config) {
  const started = performance.now();
  const image = new Tensor(pixels, [1, ...config.imageSizes[0], config.channels]);
  let outputs = {};
  try {
    outputs = await model.run(config.signature, { image });
    const read = async (name) => Float32Array.from(await outputs[name].data());
    const [logits, probabilities] = [await read("logits"), await read("probabilities")];
    const explanation = [];
    for (const name of config.explanationNames) explanation.push(await read(name));
    const milliseconds = performance.now() - started;
    if (!logits.every(Number.isFinite)) {
      throw new Error("The model's logits are not finite, so there is no result. Check its weights and create the page again.");
    }
    return { probabilities: Array.from(probabilities), explanation, milliseconds };
  } finally {
    for (const tensor of [image, ...Object.values(outputs)]) tensor.delete();
  }
}

async function download(path, onProgress) {
  const response = await fetchFile(path);
  const total = Number(response.headers.get("Content-Length"));
  const chunks = [];
  let length = 0;
  const reader = response.body.getReader();
  for (let next = await reader.read(); !next.done; next = await reader.read()) {
    chunks.push(next.value);
    length += next.value.length;
    if (total) onProgress(Math.min(length / total, 1));
  }
  return new Uint8Array(await new Blob(chunks).arrayBuffer());
}

async function fetchFile(path) {
  let response;
  try {
    response = await fetch(path);
  } catch {
    throw new Error(`${path} cannot be loaded: the server does not answer. Reload the page.`);
  }
  if (!response.ok) throw new Error(`${path} cannot be loaded: the server answers ${response.status}. Create the page again.`);
  return response;
}

function reason(error) {
  return String(error?.message ?? error?.type ?? error).split("\n")[0];
}
