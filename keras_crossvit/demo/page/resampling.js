// Interpolation of Pillow. The scaling of canvases differs between browsers.

const CUBIC_COEFFICIENT = -0.5;
const PRECISION_BITS = 22; // of Pillow's weights for bytes: 32 minus 8 for the value and 2 for sums above 255

/**
 * Resizes an image and crops its centre, like keras_crossvit.preprocess.
 *
 * @param image Object with width, height, channels, step (values per pixel) and rows(first, count), which returns the
 *     bytes of these rows.
 * @param size [height, width] of the result.
 * @param cropFraction Fraction of the shorter side to keep.
 * @returns Uint8Array of shape (height, width, channels).
 */
export function resizeAndCrop(image, size, cropFraction) {
  const [height, width] = size;
  const [newHeight, newWidth] = coveringSize(image, size, cropFraction);
  const top = roundHalfEven((newHeight - height) / 2);
  const left = roundHalfEven((newWidth - width) / 2);
  const columns = taps(image.width, newWidth, left, width);
  const lines = taps(image.height, newHeight, top, height);
  return resizeHeight(resizeWidth(image, columns, lines), lines, width * image.channels);
}

function coveringSize({ width, height }, size, cropFraction) {
  const [coverHeight, coverWidth] = size.map((side) => Math.trunc(side / cropFraction));
  return height * coverWidth <= width * coverHeight
    ? [coverHeight, Math.trunc((coverHeight * width) / height)]
    : [Math.trunc((coverWidth * height) / width), coverWidth];
}

function roundHalfEven(value) {
  const floor = Math.floor(value);
  if (value - floor !== 0.5) return Math.round(value);
  return floor % 2 === 0 ? floor : floor + 1;
}

/** For `count` target pixels from `first` on: where the source pixels start, and their weights as integers. */
function taps(oldSize, newSize, first, count) {
  const scale = oldSize / newSize;
  const filterScale = Math.max(scale, 1);
  const support = 2 * filterScale;
  const one = 2 ** PRECISION_BITS;
  return Array.from({ length: count }, (_, i) => {
    const centre = (first + i + 0.5) * scale;
    const start = Math.max(Math.trunc(centre - support + 0.5), 0);
    const end = Math.min(Math.trunc(centre + support + 0.5), oldSize);
    const weights = new Float64Array(end - start).map((_zero, k) =>
      cubicKernel(Math.abs((k + start - centre + 0.5) / filterScale)));
    const sum = weights.reduce((total, weight) => total + weight, 0);
    return { start, weights: weights.map((weight) => Math.trunc((weight / sum) * one + (weight < 0 ? -0.5 : 0.5))) };
  });
}

/** Value of the cubic convolution kernel at a distance of 0 or more pixels; it is 0 from 2 on. */
function cubicKernel(distance) {
  const a = CUBIC_COEFFICIENT;
  if (distance <= 1) return ((a + 2) * distance - (a + 3)) * distance * distance + 1;
  if (distance < 2) return (((distance - 5) * distance + 8) * distance - 4) * a;
  return 0;
}

/** Resizes the rows that `lines` needs; returns a Map from row number to values. */
function resizeWidth(image, columns, lines) {
  const first = lines[0].start;
  const last = Math.max(...lines.map(({ start, weights }) => start + weights.length));
  const batch = 256; // so that a large image is not in memory twice
  const resized = new Map();
  for (let row = first; row < last; row += batch) {
    const count = Math.min(batch, last - row);
    const values = image.rows(row, count);
    for (let i = 0; i < count; i++) {
      resized.set(row + i, resizeRow(values, i * image.width * image.step, image, columns));
    }
  }
  return resized;
}

function resizeRow(values, offset, { channels, step }, columns) {
  const row = new Uint8ClampedArray(columns.length * channels);
  columns.forEach(({ start, weights }, x) => {
    for (let channel = 0; channel < channels; channel++) {
      let sum = 0;
      let position = offset + start * step + channel;
      for (let k = 0; k < weights.length; k++, position += step) sum += values[position] * weights[k];
      row[x * channels + channel] = rounded(sum);
    }
  });
  return row;
}

function resizeHeight(rows, lines, rowLength) {
  const resized = new Uint8ClampedArray(lines.length * rowLength);
  lines.forEach(({ start, weights }, y) => {
    const sources = Array.from(weights, (_, k) => rows.get(start + k));
    for (let x = 0; x < rowLength; x++) {
      let sum = 0;
      for (let k = 0; k < weights.length; k++) sum += sources[k][x] * weights[k];
      resized[y * rowLength + x] = rounded(sum);
    }
  });
  return new Uint8Array(resized.buffer); // which LiteRT.js takes
}

function rounded(sum) {
  return Math.floor(sum / 2 ** PRECISION_BITS + 0.5);
}
