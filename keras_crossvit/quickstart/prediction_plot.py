"""What quickstart shows: sample predictions."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike

import numpy as np

from keras_crossvit.evaluation.plots import new_figure, save_figure

_ROWS, _COLUMNS = 4, 8
_RIGHT, _WRONG = "#1a7f37", "#c62828"


def draw_predictions(
    path: str | PathLike, images: np.ndarray, labels: Sequence[int], probabilities: np.ndarray
) -> None:
    """Writes a PNG of pictures with the predicted class and its probability; mistakes come first, in red."""
    predicted = probabilities.argmax(axis=1)
    mistakes_first = np.argsort(predicted == labels, kind="stable")[: _ROWS * _COLUMNS]
    wrong = int(np.sum(predicted != labels))
    figure, axes = new_figure(_ROWS, _COLUMNS, (12, 7))
    for axis, i in zip(axes.flat, mistakes_first, strict=False):
        axis.imshow(images[i], cmap="gray_r")
        right = predicted[i] == labels[i]
        text = f"{predicted[i]}  {probabilities[i, predicted[i]]:.0%}" + ("" if right else f"\nis a {labels[i]}")
        axis.set_title(text, color=_RIGHT if right else _WRONG, fontsize=11)
    for axis in axes.flat:
        axis.set_axis_off()
    figure.suptitle(f"Held-out digits: {len(labels) - wrong} of {len(labels)} right, {wrong} wrong (shown first)")
    save_figure(figure, path)
