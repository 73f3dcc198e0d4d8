// Pictures from files and from the camera, as what `preprocess` takes.

const WHITE = "#fff";

/**
 * Reads a picture's file, upright and on white where it is transparent, its values as they stand in the file.
 *
 * @param file A File or Blob.
 * @param mostPixels How many pixels it may have.
 * @returns What `preprocess` takes; call its close() after use.
 * @throws Error whose message tells people what is wrong with the file.
 */
export async function readPicture(file, mostPixels) {
  const name = file.name ? `“${file.name}”` : "What came";
  if (file.size === 0) throw new Error(`${name} is empty; choose another picture.`);
  const size = await declaredSize(file);
  if (size && size[0] * size[1] > mostPixels) {
    throw new Error(
      `${name} is too large: ${size.join(" × ")} pixels, where ${Math.floor(mostPixels / 1e6)} million are the most; ` +
      "make it smaller.");
  }
  try {
    return fromBitmap(await createImageBitmap(file, { colorSpaceConversion: "none", premultiplyAlpha: "none" }));
  } catch {
    throw new Error(`${name} is no picture that this browser can read; choose a JPEG, PNG or WebP.`);
  }
}

/** The picture that a playing video shows now, as `readImage` returns one. */
export async function readFrame(video) {
  return fromBitmap(await createImageBitmap(video));
}

/** Width and height that a PNG's header declares or the browser finds, before the pixels are decoded; or null. */
async function declaredSize(file) {
  const header = new DataView(await file.slice(0, 24).arrayBuffer());
  if (header.byteLength === 24 && header.getUint32(0) === 0x89504e47) return [header.getUint32(16), header.getUint32(20)];
  const url = URL.createObjectURL(file);
  try {
    const image = new Image();
    await new Promise((resolve, reject) => Object.assign(image, { onload: resolve, onerror: reject, src: url }));
    return [image.naturalWidth, image.naturalHeight];
  } catch {
    return null;
  } finally {
    URL.revokeObjectURL(url);
  }
}

function fromBitmap(bitmap) {
  const { width, height } = bitmap;
  const canvas = document.createElement("canvas");
  return {
    width, height, channels: 3, step: 4, eightBit: true,
    // Some rows at a time: canvases, on phones most of all, may be no larger than some millions of pixels.
    rows(first, count) {
      Object.assign(canvas, { width, height: count });
      const context = canvas.getContext("2d", { willReadFrequently: true, colorSpace: "srgb" });
      context.fillStyle = WHITE;
      context.fillRect(0, 0, width, count);
      context.drawImage(bitmap, 0, first, width, count, 0, 0, width, count);
      return context.getImageData(0, 0, width, count).data;
    },
    close: () => bitmap.close(),
  };
}
