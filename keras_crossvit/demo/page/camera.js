// The camera: on, a picture taken, off.

/** Whether this page may ask for a camera: browsers allow it on https and localhost alone. */
export const available = Boolean(navigator.mediaDevices?.getUserMedia);

let latest = 0; // number of the latest wish, to film or to stop; people may change theirs while the browser asks them

/**
 * Shows the camera in a video element, unless `stop` or `start` is called before it is there.
 *
 * @throws Error whose message tells people why there is no picture.
 */
export async function start(video) {
  stop(video);
  const wish = latest;
  try {
    const stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    if (wish !== latest) return end(stream);
    video.srcObject = stream;
    await video.play();
  } catch (error) {
    if (wish !== latest) return;
    const why = { NotAllowedError: "it was not allowed", NotFoundError: "there is none" }[error.name] ?? error.message;
    throw new Error(`The camera cannot be used: ${why}. Choose a picture instead.`);
  }
}

/** Switches the camera off. */
export function stop(video) {
  latest++;
  end(video.srcObject);
  video.srcObject = null;
}

function end(stream) {
  stream?.getTracks().forEach((track) => track.stop());
}
