"""Which picture comes when, and which mixing each batch gets: functions of (seed, epoch) and a place alone.

NumPy's RandomState draws them, whose streams are frozen; a later release orders an epoch as this one does.
"""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import numpy as np
import tensorflow as tf

from keras_crossvit.pipeline.augmentation import Augmentation

_PREFETCHED_BATCHES = 2


def finalize(batches: tf.data.Dataset, count: int, threads: int) -> tf.data.Dataset:
    """Batches of a known count, made ahead of their use, the same on every machine."""
    counted = batches.apply(tf.data.experimental.assert_cardinality(count))  # not known of what is read to its end
    options = tf.data.Options()
    options.deterministic = True
    # Each operation in one thread: sums are then taken in the same order on every machine, and pictures, of which
    # there are many, are what runs side by side.
    options.threading.max_intra_op_parallelism = 1
    options.threading.private_threadpool_size = threads
    return without_tuning(counted.prefetch(_PREFETCHED_BATCHES).with_options(options))


def without_tuning(batches: tf.data.Dataset) -> tf.data.Dataset:
    """A dataset that leaves nothing to tf.data's tuning, and whose iterator ends as soon as it is let go.

    The thread that tunes sleeps twice as long each time, up to a minute, and an iterator waits for it to wake up: the
    end of an epoch took up to as long as the epoch.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return batches.with_options(options)


_ORDER, _MIXING = 0, 1  # streams that do not depend on each other


@dataclasses.dataclass(frozen=True)
class MixingPlan:
    """What is mixed in each step of an epoch.

    Args:
        fractions: Shape (steps,), float32: what a picture keeps of itself in its target.
        blends: Shape (steps,), float32: the same for its pixels; 1 where a rectangle is exchanged.
        boxes: Shape (steps, 4), int32: top, bottom, left, right of the exchanged rectangle; empty where pixels blend.
    """

    fractions: np.ndarray
    blends: np.ndarray
    boxes: np.ndarray


def epoch_order(images: int, repeats: int, *, seed: int, epoch: int) -> np.ndarray:
    """Shape (pictures,), int64: each entry is picture * repeats + copy, shuffled by picture.

    With repeats the copies of a picture follow each other, and the epoch ends after as many pictures as without.
    Source: the authors' RASampler in a single process, without its rounding to 256.
    """
    shuffled = np.random.RandomState([_ORDER, seed, epoch]).permutation(images).astype("int64")
    shown = shuffled[: -(-images // repeats)]
    return (shown[:, None] * repeats + np.arange(repeats)).reshape(-1)[:images]


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
    fractions = np.where(exchanges, drawn[1], drawn[0])
    centres = [random.randint(0, side, steps) for side in (height, width)]
    boxes = np.stack(
        [
            edge
            for centre, side in zip(centres, (height, width), strict=True)
            for edge in _edges(centre, side, fractions)
        ],
        axis=1,
    )
    boxes *= exchanges[:, None]
    area = (boxes[:, 1] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 2])
    return MixingPlan(
        fractions=np.where(exchanges, 1 - area / (height * width), fractions).astype("float32"),
        blends=np.where(exchanges, 1, fractions).astype("float32"),
        boxes=boxes.astype("int32"),
    )


def _alphas(augmentation: Augmentation) -> tuple[float, float]:
    return augmentation.mixup, augmentation.cutmix


def _edges(centre: np.ndarray, side: int, fractions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    cut = (side * np.sqrt(1 - fractions)).astype(int)
    return np.clip(centre - cut // 2, 0, side), np.clip(centre + (cut + 1) // 2, 0, side)


_WINDOW = 1024  # encoded pictures in memory, some 100 MB of usual photographs


def epoch_stream(
    elements: tf.data.Dataset, count: int, *, repeats: int, seed: int, epoch: int, skip: int
) -> tf.data.Dataset:
    """Shuffles within windows of 1,024 and repeats each element.

    `Dataset.shuffle` is not used, since its order depends on TensorFlow's global seed as well.

    Args:
        elements: Dataset of any elements that can be batched.
        count: How many they are.
        repeats: Copies of each.
        seed: Fixes the order, together with `epoch`.
        epoch: Round through the elements.
        skip: Elements to leave out at the beginning.

    Returns:
        Dataset of (element, copy) that ends after `count` elements, the skipped ones included.
    """
    key = tf.constant(stream_key("windows", seed=seed, epoch=epoch))

    def shuffled(number: tf.Tensor, window: Any) -> Any:
        size = tf.shape(tf.nest.flatten(window)[0])[0]
        order = tf.argsort(tf.random.stateless_uniform((size,), tf.stack([key, number])))
        return tf.nest.map_structure(lambda column: tf.gather(column, order), window)

    def copies(element: Any) -> tf.data.Dataset:
        return tf.data.Dataset.range(repeats).map(lambda copy: (element, copy))

    stream = elements.batch(_WINDOW).enumerate().map(shuffled).unbatch()
    return stream.flat_map(copies).take(count).skip(skip)
