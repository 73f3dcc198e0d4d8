"""Reading of image files: modes, orientation, transparency and damage."""

import io
import struct

import numpy as np
import pytest
from PIL import ExifTags, Image

import keras_crossvit as kc
from keras_crossvit.preprocessing.images import read_image

CONFIG = kc.variant_config("crossvit_9_dagger", img_size=(48, 32))
PIXELS = np.random.default_rng(0).integers(0, 256, (40, 60, 4), dtype="uint8")


def jpeg_with_exif(contents):
    """Returns a JPEG without and with EXIF after its JFIF header, where Pillow reads it only when it is asked to."""
    file = io.BytesIO()
    Image.fromarray(PIXELS[..., :3]).save(file, "JPEG", dpi=(72, 72))
    plain = file.getvalue()
    start = 4 + struct.unpack(">H", plain[4:6])[0]
    segment = b"Exif\0\0" + contents
    return plain, plain[:start] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + plain[start:]


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("contents", [b"II*\0", b"XX", b"", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\0\x01\x01\x12"])
def test_damaged_exif_is_ignored(contents):
    plain, damaged = jpeg_with_exif(contents)
    np.testing.assert_array_equal(read_image(io.BytesIO(damaged)), read_image(io.BytesIO(plain)))


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_every_exif_orientation_is_applied(file_format):
    options = {"lossless": True} if file_format == "WEBP" else {"quality": 95} if file_format == "JPEG" else {}
    for orientation in range(10):
        exif, file = Image.Exif(), io.BytesIO()
        exif[ExifTags.Base.Orientation] = orientation
        Image.fromarray(PIXELS[..., :3]).save(file, file_format, exif=exif, **options)
        with Image.open(file) as image:
            image.load()
            stored = np.asarray(image)
        if file_format != "TIFF":  # whose reader applies the orientation itself
            stored = stored.transpose(1, 0, 2) if 5 <= orientation <= 8 else stored
            stored = stored[::-1] if orientation in (3, 4, 7, 8) else stored
            stored = stored[:, ::-1] if orientation in (2, 3, 6, 7) else stored
        np.testing.assert_array_equal(read_image(file), stored)


def test_any_error_of_pillow_means_an_unreadable_image(monkeypatch):
    def fail(self):
        raise struct.error("unpack requires a buffer of 4 bytes")

    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, "PNG")
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", fail)
    with pytest.raises(ValueError, match=r"the stream is not a readable image \(unpack requires"):
        read_image(file)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_pillow_images_are_preprocessed_like_their_files(mode):
    if mode == "I;16":
        image = Image.fromarray(PIXELS[..., 0].astype("uint16") * 257)
    else:
        image = Image.fromarray(PIXELS).convert("RGBA" if mode in ("LA", "RGBA") else "RGB").convert(mode)
    file = io.BytesIO()
    image.save(file, "TIFF" if mode == "CMYK" else "PNG")
    for channels in (1, 3):
        config = kc.variant_config("crossvit_9_dagger", img_size=(48, 32), in_channels=channels)
        for one, other in zip(*(kc.preprocess(each, config) for each in (image, read_image(file))), strict=True):
            # Grayscale of three equal channels is rounded once more.
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)


def test_transparent_gray_becomes_white():
    file = io.BytesIO()
    Image.fromarray(PIXELS[..., 0] // 128 * 128).save(file, "PNG", transparency=0)
    with Image.open(file) as image:
        assert image.mode == "L"
        found = kc.preprocess(image, CONFIG)[0]
    np.testing.assert_array_equal(found, kc.preprocess(read_image(file), CONFIG)[0])
    assert read_image(file).min() == 128
