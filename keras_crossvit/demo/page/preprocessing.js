// Turns an image into the model's input, like keras_crossvit.preprocess.

import { resizeAndCrop } from "./resampling.js";

/**
 * @param image As `resizeAndCrop` takes it.
 * @param config The facts from model.json.
 * @returns The pixels of the model's input, a Uint8Array of shape (height, width, channels), sized by
 *     `config.imageSizes[0]`.
 */
export function preprocess(image, config) {
  return resizeAndCrop(withChannels(image, config), config.imageSizes[0], config.cropFraction);
}

/** Turns the pixels of an input into an ImageData. */
export function toImageData(pixels, [height, width], channels) {
  const image = new ImageData(width, height);
  for (let i = 0; i < height * width; i++) {
    for (let c = 0; c < 3; c++) image.data[4 * i + c] = pixels[i * channels + (channels === 1 ? 0 : c)];
    image.data[4 * i + 3] = 255;
  }
  return image;
}

function withChannels(image, { channels, luma }) {
  if (image.channels === channels) return image;
  const rows = (first, count) => {
    const values = image.rows(first, count);
    const pixels = image.width * count;
    const converted = new Uint8ClampedArray(pixels * channels);
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
