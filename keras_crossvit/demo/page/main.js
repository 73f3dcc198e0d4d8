// Connects the controls of the page to the model.

import * as camera from "./camera.js";
import { digitImage } from "./digits.js";
import { readFrame, readImage } from "./images.js";
import { loadConfig, loadModel } from "./model.js";
import { Pad } from "./pad.js";
import { preprocess } from "./preprocessing.js";
import { clearResults, showResults } from "./results.js";

const byId = (id) => document.getElementById(id);
const elements = {
  list: byId("classes"),
  time: byId("time"),
  results: byId("results"),
  inputs: [byId("small-patch-image"), byId("large-patch-image")],
  heat: [byId("small-patch-heat"), byId("large-patch-heat")],
};
let latest = 0; // number of the latest image: an earlier one that finishes later is not shown

function say(message, kind = "note") {
  byId("status").textContent = message;
  byId("status").dataset.kind = kind;
}

/** Classifies the image that `read` returns, and shows its `file`, if any, and the result or the error. */
async function classify(model, config, read, file = null) {
  const turn = ++latest;
  say("Classifying …");
  try {
    const image = await read();
    await new Promise(requestAnimationFrame); // shows the message before the model runs
    const pixels = preprocess(image, config);
    image.close?.();
    const result = await model(pixels);
    if (turn !== latest) return;
    showPreview(file);
    say(showResults(elements, pixels, result, config));
  } catch (error) {
    if (turn !== latest) return;
    showPreview(null);
    clearResults(elements);
    say(error.message, "error");
  }
}

function acceptDrawings(model, config) {
  const pad = new Pad(byId("pad"), byId("tap-mode"), say);
  byId("clear").addEventListener("click", () => pad.clear());
  byId("pad").addEventListener("change", () => {
    if (pad.strokes.length) {
      classify(model, config, () => digitImage(pad.strokes, config.drawing));
    } else {
      latest++;
      clearResults(elements);
      say("Draw a digit.");
    }
  });
  say("Draw a digit.");
}

function acceptImages(model, config) {
  const take = (file) => file && classify(model, config, () => readImage(file, config.maxPixels), file);
  byId("file").addEventListener("change", ({ target }) => {
    take(target.files[0]);
    target.value = ""; // so that the same file can be chosen again
  });
  document.addEventListener("paste", ({ clipboardData }) => {
    if (clipboardData.files.length) take(clipboardData.files[0]);
    else say("The clipboard has no image. Copy one first.", "error");
  });
  const drop = byId("drop");
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
  document.addEventListener("dragleave", (event) => event.relatedTarget ?? drop.classList.remove("over"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    if (event.dataTransfer.files.length) take(event.dataTransfer.files[0]);
    else say("That is not a file. Save the image first, or copy and paste it.", "error");
  });
  acceptPhotos(model, config);
  say("Choose an image.");
}

/** Shows the file itself, or hides the preview if it is null. */
function showPreview(file) {
  const preview = byId("preview");
  URL.revokeObjectURL(preview.src);
  if (file) preview.src = URL.createObjectURL(file);
  else preview.removeAttribute("src");
  preview.hidden = !file;
}

function acceptPhotos(model, config) {
  const video = byId("video");
  const filming = (on) => {
    byId("filming").hidden = !on;
    byId("choosing").hidden = on;
    (on ? byId("shoot") : byId("camera")).focus();
  };
  const off = () => {
    camera.stop(video);
    filming(false);
  };
  byId("camera").hidden = !camera.available;
  byId("camera").addEventListener("click", async () => {
    try {
      filming(true);
      await camera.start(video);
    } catch (error) {
      off();
      say(error.message, "error");
    }
  });
  byId("shoot").addEventListener("click", () => {
    if (video.readyState < HTMLMediaElement.HAVE_CURRENT_DATA) return;
    classify(model, config, () => readFrame(video));
  });
  byId("stop").addEventListener("click", off);
}

async function begin() {
  try {
    const config = await loadConfig();
    const isDrawing = config.drawing !== null;
    document.title = byId("name").textContent = config.name.replaceAll("_", " ");
    const { length } = config.classNames;
    const images = length === 1 ? "one class of images" : `${length} classes of images`;
    byId("about").textContent = `Recognizes ${isDrawing ? "the digits that you draw" : images}.`;
    byId(isDrawing ? "drawing" : "images").hidden = false;
    byId("explaining").hidden = config.explanationNames.length === 0;
    const model = await loadModel(config, (fraction) => say(`Loading the model: ${Math.round(100 * fraction)}%`));
    byId("controls").disabled = false;
    byId("controls").removeAttribute("aria-busy");
    (isDrawing ? acceptDrawings : acceptImages)(model, config);
  } catch (error) {
    say(error.message, "error");
  }
}

begin();
