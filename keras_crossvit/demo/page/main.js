// The page: what people do, and what comes of it.

import * as camera from "./camera.js";
import { digitPicture } from "./digits.js";
import { loadFacts, loadModel } from "./model.js";
import { Pad } from "./pad.js";
import { readFrame, readPicture } from "./pictures.js";
import { preprocess } from "./preprocessing.js";
import { clearResults, showResults } from "./results.js";

const byId = (id) => document.getElementById(id);
const elements = {
  list: byId("classes"),
  time: byId("time"),
  results: byId("results"),
  inputs: [byId("small-patch-image"), byId("large-patch-image")],
};
let latest = 0; // so that of two pictures that come at once the second stays

function say(message, kind = "note") {
  byId("status").textContent = message;
  byId("status").dataset.kind = kind;
}

/** Classifies what `read` returns, shows the `file` that it is from, if any, and tells what went wrong. */
async function classify(model, facts, read, file = null) {
  const turn = ++latest;
  say("Looking …");
  try {
    const picture = await read();
    await new Promise(requestAnimationFrame); // the message shows before the processor is busy
    const inputs = preprocess(picture, facts);
    picture.close?.();
    const answer = await model(inputs);
    if (turn !== latest) return;
    showPreview(file);
    say(showResults(elements, inputs, answer, facts));
  } catch (error) {
    if (turn !== latest) return;
    showPreview(null);
    clearResults(elements);
    say(error.message, "error");
  }
}

function takeDrawings(model, facts) {
  const pad = new Pad(byId("pad"), byId("tapping"), say);
  byId("clear").addEventListener("click", () => pad.clear());
  byId("pad").addEventListener("change", () => {
    if (pad.strokes.length) {
      classify(model, facts, () => digitPicture(pad.strokes, facts.drawing));
    } else {
      latest++;
      clearResults(elements);
      say("Draw a digit.");
    }
  });
  say("Draw a digit.");
}

function takePictures(model, facts) {
  const take = (file) => file && classify(model, facts, () => readPicture(file, facts.mostPixels), file);
  byId("file").addEventListener("change", ({ target }) => {
    take(target.files[0]);
    target.value = ""; // so that the same file can be chosen again
  });
  document.addEventListener("paste", ({ clipboardData }) => {
    if (clipboardData.files.length) take(clipboardData.files[0]);
    else say("There is no picture on the clipboard; copy one first.", "error");
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
    else say("What was dropped is no file; save the picture first, or copy and paste it.", "error");
  });
  takeFrames(model, facts);
  say("Choose a picture.");
}

/** Shows a file as it is, beside what the model sees of it; or none. */
function showPreview(file) {
  const preview = byId("preview");
  URL.revokeObjectURL(preview.src);
  if (file) preview.src = URL.createObjectURL(file);
  else preview.removeAttribute("src");
  preview.hidden = !file;
}

function takeFrames(model, facts) {
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
    classify(model, facts, () => readFrame(video));
  });
  byId("stop").addEventListener("click", off);
}

async function begin() {
  try {
    const facts = await loadFacts();
    const drawn = facts.drawing !== null;
    document.title = byId("name").textContent = facts.name.replaceAll("_", " ");
    const known = facts.classes.length === 1 ? "one class" : `${facts.classes.length} classes`;
    byId("about").textContent = `${drawn ? "Draw a digit" : "Show it a picture"}: it knows ${known}.`;
    byId(drawn ? "drawing" : "pictures").hidden = false;
    const model = await loadModel(facts, (share) => say(`Loading the model: ${Math.round(100 * share)} %`));
    byId("controls").disabled = false;
    byId("controls").removeAttribute("aria-busy");
    (drawn ? takeDrawings : takePictures)(model, facts);
  } catch (error) {
    say(error.message, "error");
  }
}

begin();
