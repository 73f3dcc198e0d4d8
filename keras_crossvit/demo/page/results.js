// Shows predictions and inputs.

import { toImageData } from "./preprocessing.js";

/** Lists the most likely classes with bars, draws the two inputs and what speaks for the first class; returns a summary. */
export function showResults(elements, pixels, { probabilities, explanation, milliseconds }, config) {
  const order = probabilities.map((_, i) => i).sort((a, b) => probabilities[b] - probabilities[a] || a - b);
  elements.list.replaceChildren(
    ...order.slice(0, config.top).map((i) => row(config.classNames[i], probabilities[i])));
  elements.inputs.forEach((canvas, i) => {
    const [height, width] = config.imageSizes[i];
    Object.assign(canvas, { width, height });
  });
  const [small, large] = elements.inputs;
  small.getContext("2d").putImageData(toImageData(pixels, config.imageSizes[0], config.channels), 0, 0);
  large.getContext("2d").drawImage(small, 0, 0, large.width, large.height); // the model makes its own from the pixels
  paintHeat(elements.heat, explanation, config);
  const isUnsure = probabilities[order[0]] < (config.threshold ?? 0);
  elements.time.textContent =
    `${milliseconds < 10 ? milliseconds.toFixed(1) : Math.round(milliseconds)} ms${isUnsure ? ", unsure" : ""}`;
  elements.results.dataset.state = "filled";
  return `${config.classNames[order[0]]}: ${percent(probabilities[order[0]])}`;
}

/** Removes the results. */
export function clearResults(elements) {
  elements.list.replaceChildren();
  elements.results.dataset.state = "empty";
}

/** Paints the grids, one pixel for each patch, on one scale: the more a part of the image contributes, the more opaque. */
function paintHeat(canvases, explanation, { patchGrids, heatColors }) {
  const densities = explanation.map((grid) => grid.map((each) => each * grid.length)); // per area
  const largest = densities.reduce((most, grid) => grid.reduce((a, b) => Math.max(a, Math.abs(b)), most), 0) || 1;
  densities.forEach((grid, i) => {
    const [height, width] = patchGrids[i];
    const image = new ImageData(width, height);
    grid.forEach((each, j) => {
      const color = each > 0 ? heatColors.for : heatColors.against;
      image.data.set([...color, (255 * heatColors.opaque * Math.abs(each)) / largest], 4 * j);
    });
    Object.assign(canvases[i], { width, height });
    canvases[i].getContext("2d").putImageData(image, 0, 0);
  });
}

function row(name, probability) {
  const item = document.createElement("li");
  item.dataset.probability = probability;
  const bar = part("span", "bar", "");
  bar.setAttribute("aria-hidden", "true");
  bar.append(part("span", "fill", ""));
  bar.firstChild.style.inlineSize = `${100 * probability}%`;
  item.append(part("span", "class", name), part("span", "percent", percent(probability)), bar);
  return item;
}

function part(tag, className, text) {
  return Object.assign(document.createElement(tag), { className, textContent: text });
}

function percent(probability) {
  return `${(100 * probability).toFixed(1)}%`;
}
