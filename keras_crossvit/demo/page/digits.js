// Turns strokes into an image like the training digits: scaled to one height, drawn with one pen width and centred on a
// 32x32 bitmap, whose dark pixels are counted in 4x4 fields.

const PEN_RADIUS = 2.6; // in bitmap pixels; gives as much ink as the training digits have
const MAX_WIDTH = 25; // in bitmap pixels, with the pen; digits are taller than wide

/**
 * @param strokes Lists of [x, y] points in any unit.
 * @param drawing {side, field}: sizes of the bitmap and of a field, from model.json.
 * @returns An image for `preprocess`: the counts, scaled to 0 (no ink) to 255.
 */
export function digitImage(strokes, { side, field }) {
  const fitted = fit(strokes, side);
  const width = side / field;
  const counts = new Uint8Array(width * width);
  for (let y = 0; y < side; y++) {
    for (let x = 0; x < side; x++) {
      if (!fitted.some((stroke) => touches(stroke, x + 0.5, y + 0.5))) continue;
      counts[Math.floor(y / field) * width + Math.floor(x / field)]++;
    }
  }
  const ink = counts.map((count) => Math.round((255 * count) / field ** 2));
  return {
    width, height: width, channels: 1, step: 1,
    rows: (first, count) => ink.subarray(first * width, (first + count) * width),
  };
}

function fit(strokes, side) {
  const points = strokes.flat();
  const [left, right] = extent(points.map(([x]) => x));
  const [top, bottom] = extent(points.map(([, y]) => y));
  const room = side - 2 * PEN_RADIUS;
  const tall = room / Math.max(bottom - top, (right - left) / 2, Number.MIN_VALUE);
  const wide = Math.min(tall, (MAX_WIDTH - 2 * PEN_RADIUS) / Math.max(right - left, Number.MIN_VALUE));
  const place = (value, low, high, scale) => (value - (low + high) / 2) * scale + side / 2;
  return strokes.map((stroke) => stroke.map(([x, y]) => [
    right > left ? place(x, left, right, wide) : side / 2,
    bottom > top ? place(y, top, bottom, tall) : side / 2,
  ]));
}

function extent(values) {
  return [values.reduce((a, b) => Math.min(a, b)), values.reduce((a, b) => Math.max(a, b))];
}

function touches(stroke, x, y) {
  return stroke.some((point, i) => distance(stroke[Math.max(i - 1, 0)], point, x, y) <= PEN_RADIUS);
}

/** Distance from (x, y) to the line between two points. */
function distance([fromX, fromY], [toX, toY], x, y) {
  const [alongX, alongY] = [toX - fromX, toY - fromY];
  const length = alongX ** 2 + alongY ** 2;
  const fraction = length === 0 ? 0 : ((x - fromX) * alongX + (y - fromY) * alongY) / length;
  const nearest = Math.min(Math.max(fraction, 0), 1);
  return Math.hypot(x - fromX - nearest * alongX, y - fromY - nearest * alongY);
}
