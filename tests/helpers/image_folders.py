"""Writes folders of images in many formats, readable and damaged; each class has its own color."""

import struct
import sys
import types
import zlib

import numpy as np
from PIL import Image

COLOURS = {"bleu": (30, 60, 200), "grün": (40, 180, 50), "rouge": (210, 40, 30)}
SIZE = (64, 96)  # height, width
READABLE = (
    *("rgb.jpg", "cmyk.jpg", "turned.jpg", "progressive.jpg", "rgb.png", "alpha.png", "palette.png", "sixteen_bit.png"),
    *("lossless.webp", "plain.bmp", "animated.gif", "really_png.jpg", "no_suffix", "pixel.png", "wide.jpg"),
    *("ünïcödé 写真.jpg", "deep/er/nested.jpg", "gray.jpg", "damaged_exif.jpg"),
)
UNREADABLE = {
    "empty.jpg": "empty",
    "truncated.jpg": "truncated",
    "truncated.png": "truncated",
    "text.jpg": "not an image",
    "broken_link.jpg": "broken link",
    "bomb.png": "too many pixels",
}


def textured(colour, size=SIZE, seed=0):
    """Returns a color with texture, which shows where a crop comes from."""
    noise = np.random.default_rng(seed).integers(-20, 21, (*size, 1)) + np.linspace(-10, 10, size[1])[:, None]
    return np.clip(np.array(colour) + noise, 0, 255).astype("uint8")


def write_class(folder, colour):
    """Writes a readable image of each kind."""
    (folder / "deep" / "er").mkdir(parents=True)
    array = textured(colour)
    image = Image.fromarray(array)
    for name in ("rgb.jpg", "ünïcödé 写真.jpg", "deep/er/nested.jpg", "rgb.png", "plain.bmp"):
        image.save(folder / name, **({"quality": 95} if name.endswith("jpg") else {}))
    image.save(folder / "progressive.jpg", progressive=True, quality=90, subsampling=2)
    image.convert("L").save(folder / "gray.jpg", quality=95)
    image.convert("CMYK").save(folder / "cmyk.jpg", quality=95)
    write_turned(folder / "turned.jpg", image)
    # After a JFIF header Pillow reads EXIF only when it is asked to.
    image.save(folder / "damaged_exif.jpg", quality=95, dpi=(72, 72), exif=b"Exif\0\0XX")
    transparent = np.dstack([array, np.full(SIZE, 255, "uint8")])
    transparent[:8] = 0  # invisible black
    Image.fromarray(transparent).save(folder / "alpha.png")
    image.quantize(16).save(folder / "palette.png")
    gray = np.asarray(image.convert("L")).astype("uint16") * 257
    Image.fromarray(gray).save(folder / "sixteen_bit.png")
    image.save(folder / "lossless.webp", lossless=True)
    image.save(folder / "animated.gif", save_all=True, append_images=[Image.new("RGB", image.size)])
    image.save(folder / "really_png.jpg", format="PNG")
    image.save(folder / "no_suffix", format="JPEG", quality=95)
    Image.new("RGB", (1, 1), colour).save(folder / "pixel.png")
    Image.fromarray(textured(colour, (8, 10_000))).save(folder / "wide.jpg", quality=95)


def write_turned(path, image=None):
    """Writes a JPEG with an EXIF orientation, which Pillow decodes."""
    image = image or Image.new("RGB", SIZE)
    exif = image.getexif()
    exif[0x0112] = 6  # rotated by 90 degrees
    image.save(path, exif=exif, quality=95)


def write_damaged(folder):
    """Writes an unreadable file of each kind."""
    whole = textured((90, 90, 90), seed=1)
    for name in ("truncated.jpg", "truncated.png"):
        Image.fromarray(whole).save(folder / name)
        contents = (folder / name).read_bytes()
        (folder / name).write_bytes(contents[: len(contents) // 2])
    (folder / "empty.jpg").touch()
    (folder / "text.jpg").write_text("not an image")
    (folder / "broken_link.jpg").symlink_to("nowhere.jpg")
    (folder / "bomb.png").write_bytes(_png_header(50_000, 50_000))


def write_plain(folder, per_class=8):
    """Writes different JPEGs of each class."""
    for colour in COLOURS:
        (folder / colour).mkdir(parents=True)
        for i in range(per_class):
            image = Image.fromarray(textured(COLOURS[colour], seed=i))
            image.save(folder / colour / f"{i}.jpg", quality=95)
    return folder


def dataset(count=12, *, labels=None):
    """Returns a `tf.data.Dataset` of such images, with the classes in turn or with other labels."""
    import tensorflow as tf

    classes = np.arange(count) % len(COLOURS)
    colours = np.array(list(COLOURS.values()))
    images = np.stack([textured(colours[label], seed=i) for i, label in enumerate(classes)])
    return tf.data.Dataset.from_tensor_slices((images, classes if labels is None else labels))


def stand_in_for_tensorflow_datasets(monkeypatch, *splits):
    """Replaces the library by a module with only `dataset()`; returns the list of splits that are asked for."""
    asked = []

    def as_dataset(*, split, as_supervised, shuffle_files):
        assert as_supervised
        assert not shuffle_files
        asked.append(split)
        return dataset()

    label = types.SimpleNamespace(names=list(COLOURS))
    info = types.SimpleNamespace(features={"label": label}, splits=dict.fromkeys(splits or ("train", "test"), 1))
    builder = types.SimpleNamespace(info=info, as_dataset=as_dataset, download_and_prepare=lambda: None)
    library = types.ModuleType("tensorflow_datasets")
    library.builder = lambda name: builder
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", library)
    return asked


def _png_header(width, height):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
