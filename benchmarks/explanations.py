"""Measures how faithful the methods of `explain` are, and what they cost: `python -m benchmarks.explanations`."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

import numpy as np

from keras_crossvit._internal.image_files import files_of
from keras_crossvit.explaining.covering import areas
from keras_crossvit.explaining.explainer import METHODS, Explainer
from keras_crossvit.models.loading import load_model
from keras_crossvit.preprocessing import preprocess
from keras_crossvit.preprocessing.images import read_image
from keras_crossvit.runtimes.keras_model import KerasRuntime

_BATCH_SIZE = 8
_PRIORS = ("random order", "center first")


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints a table of all methods: areas under the deletion and insertion curves, and the time of an explanation."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.explanations", description=__doc__)
    parser.add_argument("model", help="a file with a model")
    parser.add_argument("images", nargs="+", help="image files, or folders of them")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), help="default: all")
    parser.add_argument("--number", type=int, default=200, help="images, evenly spaced (default: %(default)s)")
    parser.add_argument("--crop-fraction", type=float, help="as in explain")
    parsed = parser.parse_args(arguments)
    files = [path for path, _ in files_of(parsed.images, follow_links=True)]
    files = [files[i] for i in np.linspace(0, len(files) - 1, min(parsed.number, len(files))).astype(int)]
    measure(load_model(parsed.model), files, parsed.methods, parsed.crop_fraction)


def measure(model: object, files: Sequence[str], methods: Sequence[str], crop_fraction: float | None) -> None:
    """Prints the table for a model and some image files, whose predicted classes are explained."""
    runtime, random = KerasRuntime(model), np.random.default_rng(0)  # type: ignore[arg-type]
    explainers = {name: Explainer(model, method=name, crop_fraction=crop_fraction) for name in methods}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in (*_PRIORS, *methods)}
    seconds: dict[str, list[float]] = {name: [] for name in ("forward pass", *methods)}
    for start in range(0, len(files), _BATCH_SIZE):
        images = [read_image(file) for file in files[start : start + _BATCH_SIZE]]
        inputs = preprocess(images, runtime.config, crop_fraction=crop_fraction)
        numbers = runtime.logits(*inputs).argmax(axis=1)
        if len(images) == _BATCH_SIZE:
            seconds["forward pass"].append(_seconds(lambda inputs=inputs: runtime.logits(*inputs)))
        heats = {}
        for name, explainer in explainers.items():
            started = time.perf_counter()
            explanations = explainer.explain(images)
            if len(images) == _BATCH_SIZE:
                seconds[name].append(time.perf_counter() - started)
            heats[name] = [explainer.joined(each.small_patch, each.large_patch) for each in explanations]
        for i in range(len(images)):

            def probability(*batch: np.ndarray, number: int = int(numbers[i])) -> np.ndarray:
                return runtime.probabilities(*batch)[:, number]

            shape = next(iter(heats.values()))[i].shape
            priors = [random.random(shape), -_distance_to_center(shape)]
            for name, heat in zip(found, [*priors, *(heats[name][i] for name in methods)], strict=True):
                found[name].append(areas(probability, (inputs[0][i], inputs[1][i]), heat))
        print(f"\r{start + len(images)} of {len(files)} images", end="", file=sys.stderr, flush=True)
    _print(found, {name: float(np.median(each[1:])) for name, each in seconds.items() if len(each) > 1})


def _seconds(function: object) -> float:
    started = time.perf_counter()
    function()  # type: ignore[operator]
    return time.perf_counter() - started


def _distance_to_center(shape: tuple[int, ...]) -> np.ndarray:
    rows, columns = (np.linspace(-1, 1, size) for size in shape)
    return np.hypot(rows[:, None], columns)


def _print(found: dict[str, list[tuple[float, float]]], seconds: dict[str, float]) -> None:
    """Prints means with half the width of their 95 % confidence intervals, and times in forward passes."""
    print("\n| order | deletion | insertion | insertion - deletion | forward passes |\n|---|---|---|---|---|")
    for name, pairs in found.items():
        table = np.array(pairs)
        columns = [*table.T, table[:, 1] - table[:, 0]]
        cells = [f"{each.mean():.3f} ± {1.96 * each.std(ddof=1) / len(each) ** 0.5:.3f}" for each in columns]
        cost = f"{seconds[name] / seconds['forward pass']:.2f}" if name in seconds else ""
        print(f"| {name} | {' | '.join(cells)} | {cost} |")


if __name__ == "__main__":
    main()
