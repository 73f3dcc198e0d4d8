// The camera: on, a picture taken, off.

/** Whether this page may ask for a camera: browsers allow it on https and localhost alone. */
export const available = Boolean(navigator.mediaDevices?.getUserMedia);

/**
 * Shows the camera in a video element.
 *
 * @throws Error whose message tells people why there is no picture.
 */
export async function start(video) {
  try {
    video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch (error) {
    const why = { NotAllowedError: "it was not allowed", NotFoundError: "there is none" }[error.name] ?? error.message;
    throw new Error(`The camera cannot be used: ${why}. Choose a picture instead.`);
  }
  await video.play();
}

/** Switches the camera off. */
export function stop(video) {
  video.srcObject?.getTracks().forEach((track) => track.stop());
  video.srcObject = null;
}
