// Turns an image into the model's two inputs, like keras_crossvit.preprocess.

import { resizeAndCrop, resizeBicubic } from "./resampling.js";

/**
 * @param image As `resizeAndCrop` takes it.
 * @param config The facts from model.json.
 * @returns The two normalized inputs in the order of `config.inputNames`, Float32Arrays of shape (height, width,
 *     channels), sized by `config.imageSizes`.
 */
export function preprocess(image, config) {
  const [size, secondSize] = config.imageSizes;
  const converted = withChannels(image, config);
  const first = normalize(resizeAndCrop(converted, size, config.cropFraction), config);
  return [first, resizeBicubic(first, size, secondSize, config.cubicCoefficient)];
}

/** Turns an input of the model back into an ImageData. */
export function toImageData(input, [height, width], { channels, mean, std }) {
  const image = new ImageData(width, height);
  for (let i = 0; i < height * width; i++) {
    for (let c = 0; c < 3; c++) {
      const channel = channels === 1 ? 0 : c;
      image.data[4 * i + c] = (input[i * channels + channel] * std[channel] + mean[channel]) * 255;
    }
    image.data[4 * i + 3] = 255;
  }
  return image;
}

function normalize(image, { channels, mean, std }) {
  const [means, stds] = [mean, std].map((each) => Float32Array.from(each));
  return image.map((value, i) => {
    const channel = i % channels;
    return Math.fround(Math.fround(value / 255) - means[channel]) / stds[channel];
  });
}

function withChannels(image, { channels, luma }) {
  if (image.channels === channels) return image;
  const rows = (first, count) => {
    const values = image.rows(first, count);
    const pixels = image.width * count;
    const converted = new Float32Array(pixels * channels);
    for (let i = 0; i < pixels; i++) {
      const start = i * image.step;
      if (channels === 1) {
        converted[i] = Math.round(luma.reduce((sum, weight, c) => sum + weight * values[start + c], 0));
      } else {
        converted.fill(values[start], i * channels, (i + 1) * channels);
      }
    }
    return converted;
  };
  return { ...image, channels, step: channels, rows };
}
