// Interpolation of Pillow and PyTorch. The scaling of canvases differs between browsers.

const PILLOW_COEFFICIENT = -0.5;
const PRECISION_BITS = 22; // of Pillow's weights for bytes: 32 minus 8 for the value and 2 for sums above 255

/** Value of the cubic convolution kernel at a distance of 0 or more pixels; it is 0 from 2 on. */
export function cubicKernel(distance, coefficient) {
  const a = coefficient;
  if (distance <= 1) return ((a + 2) * distance - (a + 3)) * distance * distance + 1;
  if (distance < 2) return (((distance - 5) * distance + 8) * distance - 4) * a;
  return 0;
}

/**
 * Resizes an image and crops its centre, like keras_crossvit.preprocess.
 *
 * @param image Object with width, height, channels, step (values per pixel), eightBit (whether values are bytes, and
 *     rounded to bytes after each pass) and rows(first, count), which returns the values of these rows.
 * @param size [height, width] of the result.
 * @param cropFraction Fraction of the shorter side to keep.
 * @returns Float32Array of shape (height, width, channels) with values from 0 to 255.
 */
export function resizeAndCrop(image, size, cropFraction) {
  const [height, width] = size;
  const [newHeight, newWidth] = coveringSize(image, size, cropFraction);
  const top = roundHalfEven((newHeight - height) / 2);
  const left = roundHalfEven((newWidth - width) / 2);
  const columns = antialiasedTaps(image.width, newWidth, left, width, image.eightBit);
  const lines = antialiasedTaps(image.height, newHeight, top, height, image.eightBit);
  return resizeHeight(resizeWidth(image, columns, lines), lines, width * image.channels, image.eightBit);
}

/**
 * Resizes an image with bicubic interpolation without antialiasing, which makes the large-patch input.
 *
 * @param image Float32Array of shape (size[0], size[1], channels).
 * @param size [height, width] of the image.
 * @param newSize [height, width] of the result.
 * @param coefficient Coefficient of the cubic kernel.
 * @returns Float32Array of shape (newSize[0], newSize[1], channels).
 */
export function resizeBicubic(image, size, newSize, coefficient) {
  const channels = image.length / (size[0] * size[1]);
  const whole = {
    width: size[1], height: size[0], channels, step: channels, eightBit: false,
    rows: (first, count) => image.subarray(first * size[1] * channels, (first + count) * size[1] * channels),
  };
  const columns = plainTaps(size[1], newSize[1], coefficient);
  const lines = plainTaps(size[0], newSize[0], coefficient);
  return resizeHeight(resizeWidth(whole, columns, lines), lines, newSize[1] * channels, false);
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

/** For `count` target pixels from `first` on: where the source pixels start, and their weights. */
function antialiasedTaps(oldSize, newSize, first, count, eightBit) {
  const scale = oldSize / newSize;
  const filterScale = Math.max(scale, 1);
  const support = 2 * filterScale;
  return Array.from({ length: count }, (_, i) => {
    const centre = (first + i + 0.5) * scale;
    const start = Math.max(Math.trunc(centre - support + 0.5), 0);
    const end = Math.min(Math.trunc(centre + support + 0.5), oldSize);
    const weights = new Float64Array(end - start).map((_zero, k) =>
      cubicKernel(Math.abs((k + start - centre + 0.5) / filterScale), PILLOW_COEFFICIENT));
    const sum = weights.reduce((total, weight) => total + weight, 0);
    const whole = 2 ** PRECISION_BITS;
    return {
      start,
      weights: weights.map((weight) =>
        eightBit ? Math.trunc((weight / sum) * whole + (weight < 0 ? -0.5 : 0.5)) : weight / sum),
    };
  });
}

/** As `antialiasedTaps`, without antialiasing and with positions in float32, as in PyTorch. */
function plainTaps(oldSize, newSize, coefficient) {
  const scale = Math.fround(oldSize / newSize);
  return Array.from({ length: newSize }, (_, i) => {
    const centre = Math.fround(Math.fround(scale * (i + 0.5)) - 0.5);
    const left = Math.floor(centre);
    const neighbours = [-1, 0, 1, 2].map((offset) => left + offset);
    const inside = neighbours.map((each) => Math.min(Math.max(each, 0), oldSize - 1));
    const weights = new Float64Array(inside[3] - inside[0] + 1);
    neighbours.forEach((each, k) => {
      weights[inside[k] - inside[0]] += cubicKernel(Math.abs(centre - each), coefficient);
    });
    return { start: inside[0], weights };
  });
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

function resizeRow(values, offset, { channels, step, eightBit }, columns) {
  const row = eightBit ? new Uint8ClampedArray(columns.length * channels) : new Float32Array(columns.length * channels);
  columns.forEach(({ start, weights }, x) => {
    for (let channel = 0; channel < channels; channel++) {
      let sum = 0;
      let position = offset + start * step + channel;
      for (let k = 0; k < weights.length; k++, position += step) sum += values[position] * weights[k];
      row[x * channels + channel] = rounded(sum, eightBit);
    }
  });
  return row;
}

function resizeHeight(rows, lines, rowLength, eightBit) {
  const resized = new Float32Array(lines.length * rowLength);
  lines.forEach(({ start, weights }, y) => {
    const sources = Array.from(weights, (_, k) => rows.get(start + k));
    for (let x = 0; x < rowLength; x++) {
      let sum = 0;
      for (let k = 0; k < weights.length; k++) sum += sources[k][x] * weights[k];
      resized[y * rowLength + x] = rounded(sum, eightBit);
    }
  });
  return resized;
}

function rounded(sum, eightBit) {
  if (!eightBit) return sum;
  return Math.min(Math.max(Math.floor(sum / 2 ** PRECISION_BITS + 0.5), 0), 255);
}
