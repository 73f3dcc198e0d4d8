// Reads images from files and from the camera.

const WHITE = "#fff";

/**
 * Reads an image file: upright, on white where it is transparent, without colour conversion.
 *
 * @param file A File or Blob.
 * @param maxPixels Maximum number of pixels.
 * @returns An image for `preprocess`; call its close() after use.
 * @throws Error with a message for visitors.
 */
export async function readImage(file, maxPixels) {
  const name = file.name ? `“${file.name}”` : "The image";
  if (file.size === 0) throw new Error(`${name} is empty. Choose another image.`);
  const size = await declaredSize(file);
  if (size && size[0] * size[1] > maxPixels) {
    throw new Error(
      `${name} is too large: ${size.join(" × ")} pixels. The limit is ${Math.floor(maxPixels / 1e6)} million pixels.`);
  }
  try {
    return fromBitmap(await createImageBitmap(file, { colorSpaceConversion: "none", premultiplyAlpha: "none" }));
  } catch {
    throw new Error(`This browser cannot read ${name}. Choose a JPEG, PNG or WebP image.`);
  }
}

/** Reads the current frame of a video, as `readImage` does. */
export async function readFrame(video) {
  return fromBitmap(await createImageBitmap(video));
}

/** Width and height from a PNG header or from the browser, before the pixels are decoded; null if unknown. */
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
    width, height, channels: 3, step: 4,
    // A few rows at a time: canvases are limited to a few million pixels, on phones above all.
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
