"""Finds images that a dataset has more than once, in one split or in several."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from keras_crossvit._internal.checks import resolve_threads
from keras_crossvit._internal.image_files import open_image, read_image_file
from keras_crossvit._internal.log import logger
from keras_crossvit._internal.optional import require_library
from keras_crossvit.pipeline.splits import FileSplit

MAX_IMAGES = 20_000  # are compared; of more, a sample
_MAX_BITS = 6  # of 64 in which perceptual hashes of the same image differ
_THUMBNAIL = 16  # pixels
_MAX_DIFFERENCE = 6.0  # of 255, mean over the thumbnail; hashes of plain images agree by chance
_ROWS = 1_000  # compared with all others at once
_MAX_COPIES = 20  # that each image is compared with


class _Prints(NamedTuple):
    sha256: str
    hash: int
    thumbnail: np.ndarray


def find_duplicates(
    splits: Mapping[str, FileSplit], class_names: Sequence[str], *, max_images: int = MAX_IMAGES
) -> list[dict[str, Any]]:
    """Returns a row for each image that has a copy: group, split, class, file, and whether the copy is exact or near.

    Groups that are in several splits, or have several classes, come first. A copy is exact if the files have the same
    contents, and near if their perceptual hashes and thumbnails hardly differ.

    Args:
        splits: The images by the name of their split; with one label each.
        class_names: Class names, in the order of the labels.
        max_images: How many images to compare; of more, every k-th is taken. Defaults to 20,000.

    Raises:
        MissingLibraryError: ImageHash or SciPy is not installed.
    """
    imagehash = require_library("imagehash", "report")
    images = [
        {"split": name, "class": class_names[label], "file": file}
        for name, split in splits.items()
        for file, label in zip(split.files, split.labels, strict=True)
    ]
    if len(images) > max_images:
        logger.info("Looking for duplicates in %d of %d images", max_images, len(images))
        images = [images[i] for i in np.linspace(0, len(images) - 1, max_images).astype(int)]
    with ThreadPoolExecutor(resolve_threads(None)) as pool:
        prints = list(pool.map(functools.partial(_prints_of, imagehash), [image["file"] for image in images]))
    known = [(image, each) for image, each in zip(images, prints, strict=True) if each is not None]
    rows = []
    for members in _groups([each for _, each in known]):
        group = [known[i][0] for i in members]
        contents = [known[i][1].sha256 for i in members]
        spread = max(len({image[name] for image in group}) for name in ("split", "class"))
        rows.append((spread > 1, group, [contents.count(each) > 1 for each in contents]))
    rows.sort(key=lambda row: not row[0])
    return [
        {"group": number, **image, "copy": "exact" if is_exact else "near"}
        for number, (_, group, exact) in enumerate(rows, start=1)
        for image, is_exact in zip(group, exact, strict=True)
    ]


def _prints_of(imagehash: Any, file: str) -> _Prints | None:
    try:
        contents = read_image_file(file)
        with open_image(contents) as image:
            image.draft("L", (256, 256))  # decodes a JPEG faster
            gray = image.convert("L")
        thumbnail = gray.resize((_THUMBNAIL, _THUMBNAIL), Image.Resampling.BOX)
        bits = int(str(imagehash.phash(gray)), 16)
    except Exception:  # Pillow's readers raise anything on a file that was changed after it was checked
        return None
    return _Prints(hashlib.sha256(contents).hexdigest(), bits, np.asarray(thumbnail, "float32"))


def _groups(prints: Sequence[_Prints]) -> list[np.ndarray]:
    """Returns the indices of images that are copies of each other, for each group of two or more."""
    graph = require_library("scipy.sparse.csgraph", "report")
    sparse = require_library("scipy.sparse", "report")
    hashes = np.array([each.hash for each in prints], "uint64")
    thumbnails = np.reshape([each.thumbnail for each in prints], (-1, _THUMBNAIL, _THUMBNAIL))
    pairs = [np.zeros((0, 2), int)]
    for start in range(0, len(hashes), _ROWS):
        differing = np.bitwise_count(hashes[start : start + _ROWS, None] ^ hashes[None, start:])
        near = np.triu(differing <= _MAX_BITS, 1)
        near &= np.cumsum(near, axis=1) <= _MAX_COPIES  # all copies of a blank image are still connected
        found = np.argwhere(near) + start
        distances = np.abs(thumbnails[found[:, 0]] - thumbnails[found[:, 1]]).mean(axis=(1, 2))
        pairs.append(found[distances <= _MAX_DIFFERENCE])
    first, second = np.concatenate(pairs).T
    adjacency = sparse.coo_matrix((np.ones(len(first)), (first, second)), shape=(len(prints), len(prints)))
    _, component = graph.connected_components(adjacency, directed=False)
    sizes = np.bincount(component, minlength=1)
    return [np.flatnonzero(component == each) for each in np.flatnonzero(sizes > 1)]
