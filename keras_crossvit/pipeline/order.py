"""Which picture comes when, and which mixing each batch gets: functions of (seed, epoch) and a place alone.

NumPy's RandomState draws them, whose streams are frozen; a later release orders an epoch as this one does.
"""

from __future__ import annotations

import dataclasses
import hashlib

import numpy as np

from keras_crossvit.pipeline.augmentation import Augmentation

_ORDER, _MIXING = 0, 1  # streams that do not depend on each other


@dataclasses.dataclass(frozen=True)
class MixingPlan:
    """What is mixed in each step of an epoch.

    Args:
        shares: Shape (steps,), float32: what a picture keeps of itself in its target.
        blends: Shape (steps,), float32: the same for its pixels; 1 where a rectangle is exchanged.
        boxes: Shape (steps, 4), int32: top, bottom, left, right of the exchanged rectangle; empty where pixels blend.
    """

    shares: np.ndarray
    blends: np.ndarray
    boxes: np.ndarray


def epoch_order(pictures: int, repeats: int, *, seed: int, epoch: int) -> np.ndarray:
    """Shape (pictures,), int64: each entry is picture * repeats + copy, shuffled by picture.

    With repeats the copies of a picture follow each other, and the epoch ends after as many pictures as without.
    Source: the authors' RASampler in a single process, without its rounding to 256.
    """
    shuffled = np.random.RandomState([_ORDER, seed, epoch]).permutation(pictures).astype("int64")
    shown = shuffled[: -(-pictures // repeats)]
    return (shown[:, None] * repeats + np.arange(repeats)).reshape(-1)[:pictures]


def stream_key(purpose: str, *, seed: int, epoch: int) -> int:
    """A 63-bit number for a stream of random numbers of its own; with a sample's number it seeds the sample's draws."""
    digest = hashlib.sha256(f"{purpose}/{seed}/{epoch}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def mixing_plan(
    augmentation: Augmentation, steps: int, height: int, width: int, *, seed: int, epoch: int
) -> MixingPlan:
    """Draws mixup or cutmix for each step, for images of `height` x `width`.

    Source: timm.data.mixup.Mixup in mode "batch", with correct_lam.
    """
    random = np.random.RandomState([_MIXING, seed, epoch])
    switch = (
        float(augmentation.cutmix > 0) if 0 in (augmentation.mixup, augmentation.cutmix) else augmentation.mix_switch
    )
    exchanges = random.uniform(size=steps) < switch
    drawn = [random.beta(alpha, alpha, steps) if alpha else np.ones(steps) for alpha in _alphas(augmentation)]
    shares = np.where(exchanges, drawn[1], drawn[0])
    centres = [random.randint(0, side, steps) for side in (height, width)]
    boxes = np.stack(
        [edge for centre, side in zip(centres, (height, width), strict=True) for edge in _edges(centre, side, shares)],
        axis=1,
    )
    boxes *= exchanges[:, None]
    area = (boxes[:, 1] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 2])
    return MixingPlan(
        shares=np.where(exchanges, 1 - area / (height * width), shares).astype("float32"),
        blends=np.where(exchanges, 1, shares).astype("float32"),
        boxes=boxes.astype("int32"),
    )


def _alphas(augmentation: Augmentation) -> tuple[float, float]:
    return augmentation.mixup, augmentation.cutmix


def _edges(centre: np.ndarray, side: int, shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    cut = (side * np.sqrt(1 - shares)).astype(int)
    return np.clip(centre - cut // 2, 0, side), np.clip(centre + (cut + 1) // 2, 0, side)
