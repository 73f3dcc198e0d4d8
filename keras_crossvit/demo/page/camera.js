// Turns the camera on and off.

/** Whether the page can use a camera: browsers allow it only on https and localhost. */
export const available = Boolean(navigator.mediaDevices?.getUserMedia);

let latest = 0; // number of the latest request: visitors may cancel while the browser asks for permission

/**
 * Shows the camera in a video element, unless `stop` or `start` is called before it is ready.
 *
 * @throws Error with a message for visitors.
 */
export async function start(video) {
  stop(video);
  const request = latest;
  try {
    const stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    if (request !== latest) return end(stream);
    video.srcObject = stream;
    await video.play();
  } catch (error) {
    if (request !== latest) return;
    const reasons = { NotAllowedError: "permission was denied", NotFoundError: "no camera was found" };
    throw new Error(`The camera cannot be used: ${reasons[error.name] ?? error.message}. Choose an image instead.`);
  }
}

/** Turns the camera off. */
export function stop(video) {
  latest++;
  end(video.srcObject);
  video.srcObject = null;
}

function end(stream) {
  stream?.getTracks().forEach((track) => track.stop());
}
