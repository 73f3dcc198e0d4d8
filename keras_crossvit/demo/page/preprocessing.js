// From a picture to the model's two inputs, equal to keras_crossvit.preprocess.

import { resizeAndCrop, resizeBicubic } from "./resampling.js";

/**
 * @param picture What `resizeAndCrop` takes.
 * @param facts The model's facts, from model.json.
 * @returns The two normalised inputs in the order of `facts.inputNames`, each a Float32Array of shape
 *     (height, width, channels) by `facts.imageSizes`.
 */
export function preprocess(picture, facts) {
  const [size, secondSize] = facts.imageSizes;
  const fitting = withChannels(picture, facts);
  const first = normalise(resizeAndCrop(fitting, size, facts.cropFraction), facts);
  return [first, resizeBicubic(first, size, secondSize, facts.cubicCoefficient)];
}

/** An input as it looks: an ImageData of what `preprocess` returned. */
export function pictured(input, [height, width], { channels, mean, std }) {
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

function normalise(image, { channels, mean, std }) {
  const [means, deviations] = [mean, std].map((each) => Float32Array.from(each));
  return image.map((value, i) => {
    const channel = i % channels;
    return Math.fround(Math.fround(value / 255) - means[channel]) / deviations[channel];
  });
}

function withChannels(picture, { channels, luma }) {
  if (picture.channels === channels) return picture;
  const rows = (first, count) => {
    const values = picture.rows(first, count);
    const pixels = picture.width * count;
    const changed = new Float32Array(pixels * channels);
    for (let i = 0; i < pixels; i++) {
      const start = i * picture.step;
      if (channels === 1) {
        changed[i] = Math.round(luma.reduce((sum, share, c) => sum + share * values[start + c], 0));
      } else {
        changed.fill(values[start], i * channels, (i + 1) * channels);
      }
    }
    return changed;
  };
  return { ...picture, channels, step: channels, rows };
}
