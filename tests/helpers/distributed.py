"""A run on tiny images in a process of its own, with a tiny model under the name of a published one.

`python -m tests.helpers.distributed SETTINGS`: JSON with `folder`, which has `images` and gets the run; number of
TensorFlow `devices`; `recipe` overrides; `die_after` steps; and arguments of `train`. Metrics and weights are written
to `process-<index>.npz` in the folder. With `reference`, the same is then fitted on one device, and kept in
`reference.npz`.
"""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from tests.helpers.processes import PROJECT

CLASSES = ("dark", "gray", "light")
TRAINING, VALIDATION = 24, 10  # in batches of 8; the last validation batch has 2


def write_images(folder):
    random = np.random.default_rng(0)
    for split, count in (("train", TRAINING), ("val", VALIDATION)):
        for i in range(count):
            label = i % len(CLASSES)
            values = random.normal(60 + 70 * label, 30, (50, 60, 3)).clip(0, 255).astype("uint8")
            path = folder / "images" / split / CLASSES[label] / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(path)


def start(settings, *, backend, **environment):
    """Starts a process with standard output and error in one pipe."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.helpers.distributed", json.dumps(settings)],
        env={**os.environ, "KERAS_BACKEND": backend, **environment},
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def main(settings):
    folder, devices = Path(settings.pop("folder")), settings.pop("devices", 1)
    overrides, die_after = settings.pop("recipe", {}), settings.pop("die_after", None)
    reference = settings.pop("reference", False)
    import tensorflow as tf

    if devices > 1:
        processor = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(processor, [tf.config.LogicalDeviceConfiguration()] * devices)

    import keras_crossvit.cli.train as command
    from keras_crossvit.cli import main as cli
    from keras_crossvit.models import variants
    from keras_crossvit.training import distributed, fit, get_recipe, train
    from tests.helpers.models import TINY
    from tests.helpers.training import After

    published = variants.VARIANTS["crossvit_tiny"]
    config = dataclasses.replace(published.config, **TINY)
    variants.VARIANTS["crossvit_tiny"] = dataclasses.replace(published, config=config)
    fields = {"epochs": 2, "batch_size": 8, "learning_rate": 3e-3, "layer_decay": None, "rand_augment_ops": 0}
    recipe = get_recipe("finetune", **{**fields, **overrides})
    fit_resumable = fit.fit_resumable

    def fit_and_keep(model, batches, *, callbacks, **arguments):
        if die_after is not None:
            callbacks = [*callbacks, After(die_after, lambda: os.kill(os.getpid(), signal.SIGKILL))]
        fit_resumable(model, batches, callbacks=callbacks, **arguments)
        rows = next(each.rows for each in callbacks if hasattr(each, "rows"))
        metrics = {name: [row[name] for row in rows] for name in rows[0]}
        weights = {f"weight-{i:03d}": array for i, array in enumerate(model.get_weights())}
        name = f"process-{distributed.process_index()}" if runs == ["run"] else "reference"
        np.savez(folder / f"{name}.npz", **metrics, **weights)
        if name == "reference":
            sys.exit()  # before the report

    def run(output, **arguments):
        runs.append(output)
        images = folder / "images"
        train(images, model="crossvit_tiny", recipe=recipe, weights="none", output=folder / output, **arguments)

    def run_command(_):
        run("run", **settings)
        if reference:
            run("reference")

    runs: list[str] = []
    fit.fit_resumable = fit_and_keep
    command.run = run_command
    cli.COMMANDS = ("train",)
    sys.argv = ["keras-crossvit", "train", str(folder)]
    cli.run_and_exit()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
