"""Covers cells of both images with the mean color: occlusion, and how faithful a map is."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from keras_crossvit.preprocessing.transforms import channel_statistics

Images = tuple[np.ndarray, ...]  # the inputs of a model for one image, each (height, width, channels)
Predict = Callable[..., np.ndarray]  # the inputs for a batch -> a value of each image

_BATCH_SIZE = 16
_STEPS = 20
_RANDOM_ORDERS = 3


def occlusion(predict: Predict, images: Images, grid: tuple[int, int]) -> np.ndarray:
    """Returns what `predict` loses when each cell of a grid, (rows, columns), is covered in both images."""
    cells = np.eye(grid[0] * grid[1], dtype=bool).reshape(-1, *grid)
    values = _predict_covered(predict, images, cells)
    (whole,) = predict(*(each[None] for each in images))
    return (whole - values).reshape(grid)


def faithfulness(predict: Predict, images: Images, heat: np.ndarray) -> dict[str, float]:
    """Returns the areas under the deletion and the insertion curve of a grid of heat, and those of random orders."""
    random = np.random.default_rng(0)
    orders = [random.permutation(heat.size).reshape(heat.shape) for _ in range(_RANDOM_ORDERS)]
    of_heat, *of_random = (areas(predict, images, each) for each in (heat, *orders))
    names = ("deletion", "insertion")
    found = dict(zip(names, of_heat, strict=True))
    means = np.mean(of_random, axis=0)
    return found | {f"random_{name}": float(mean) for name, mean in zip(names, means, strict=True)}


def areas(predict: Predict, images: Images, heat: np.ndarray) -> tuple[float, float]:
    """Returns the areas under the deletion and the insertion curve of a grid of heat.

    Source: Petsiuk, Das and Saenko, "RISE", BMVC 2018, section 4.3; here both images are covered at once.
    """
    ranks = np.argsort(np.argsort(-heat, axis=None, kind="stable"), kind="stable")
    limits = np.linspace(0, heat.size, _STEPS + 1).round()
    covered = np.stack([ranks < limit for limit in limits]).reshape(-1, *heat.shape)
    deletion, insertion = (_predict_covered(predict, images, each) for each in (covered, ~covered))
    return float(np.trapezoid(deletion, dx=1 / _STEPS)), float(np.trapezoid(insertion, dx=1 / _STEPS))


def _predict_covered(predict: Predict, images: Images, cells: np.ndarray) -> np.ndarray:
    """Returns the value of the images with each of some sets of cells covered."""
    return np.concatenate([predict(*batch) for batch in _covered(images, cells)])


def _covered(images: Images, cells: np.ndarray) -> Iterator[list[np.ndarray]]:
    for start in range(0, len(cells), _BATCH_SIZE):
        chosen = cells[start : start + _BATCH_SIZE]
        batch = [np.repeat(each[None], len(chosen), axis=0) for each in images]
        for each in batch:
            height, width = each.shape[1:3]
            rows = np.arange(height) * cells.shape[1] // height
            columns = np.arange(width) * cells.shape[2] // width
            each[chosen[:, rows[:, None], columns]] = _mean_color(each)
        yield batch


def _mean_color(images: np.ndarray) -> np.ndarray:
    """Returns the mean color of normalized images, or of uint8."""
    mean, _ = channel_statistics(images.shape[-1])
    return np.round(255 * np.array(mean)) if images.dtype == np.uint8 else np.zeros(len(mean))
