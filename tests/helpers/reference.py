"""The golden numbers of the reference, and the rules that draw the weights and images they belong to."""

import functools
import json
import zlib
from pathlib import Path

import numpy as np

from keras_crossvit import CrossViTConfig
from keras_crossvit.models.variants import VARIANTS

FIXTURES = Path(__file__).parents[1] / "fixtures"
SEED = 0
TINY = (
    "tiny_square",
    "tiny_single_conv",
    "tiny_non_square",
    "tiny_no_qkv_bias",
    "tiny_avg_pool",
    "tiny_gray",
    "tiny_equal_dims",
)
OUR_NAME = {variant.timm_name: name for name, variant in VARIANTS.items()}


@functools.cache
def records():
    return json.loads((FIXTURES / "reference.json").read_text())["models"]


@functools.cache
def arrays():
    with np.load(FIXTURES / "reference.npz") as stored:
        return dict(stored)


@functools.cache
def surroundings():
    with np.load(FIXTURES / "surroundings.npz") as stored:
        return dict(stored)


def random_state(text):
    return np.random.RandomState(zlib.crc32(text.encode()))


def draw_tensor(name, shape):
    z = random_state(f"{SEED}/{name}").randn(*shape).astype("float32")
    if name.startswith(("cls_token", "pos_embed")):
        return 0.5 * z
    if name.split(".")[-1] == "bias":
        return 0.1 * z
    if z.ndim == 1:
        return 1 + 0.1 * z
    return (z / np.sqrt(np.prod(shape[1:]))).astype("float32")


def direction(name, shape):
    """A random direction along which gradients of a tensor are compared."""
    return random_state(f"{SEED}/probe/{name}").randn(*shape)


def draw_weights(model_name):
    return {name: draw_tensor(name, shape) for name, shape in records()[model_name]["shapes"].items()}


def draw_image(model_name, branch, *, channels=3, batch=2):
    return image_of(model_name, branch, records()[model_name]["image_sizes"][branch], channels=channels, batch=batch)


def image_of(model_name, branch, size, *, channels, batch=2):
    height, width = size
    random = random_state(f"{SEED}/image/{model_name}/{branch}")
    y = np.linspace(0, 1, height)[:, None, None]
    x = np.linspace(0, 1, width)[None, :, None]
    f = random.uniform(1, 9, (4, batch, 1, 1, channels))
    p = random.uniform(0, 6.28, (2, batch, 1, 1, channels))
    waves = np.sin(f[0] * 6.28 * y + f[1] * 6.28 * x + p[0]) + np.cos(f[2] * 6.28 * x - f[3] * 6.28 * y + p[1])
    return (waves + 0.5 * random.randn(batch, height, width, channels)).astype("float32")


def draw_images(model_name):
    channels = records()[model_name].get("arguments", {}).get("in_chans", 3)
    return [draw_image(model_name, branch, channels=channels) for branch in (0, 1)]


def tiny_config(model_name, **overrides):
    """Our configuration of a tiny model of the fixtures, whose arguments speak timm's language."""
    record = records()[model_name]
    arguments = dict(record["arguments"])
    fields = {
        field: arguments[field]
        for field in ("embed_dim", "depth", "num_heads", "mlp_ratio", "multi_conv", "num_classes")
    }
    fields |= {field: arguments[field] for field in ("qkv_bias",) if field in arguments}
    fields |= {"img_size": record["image_sizes"], "in_channels": arguments.get("in_chans", 3)}
    return CrossViTConfig(**{**fields, **overrides})


def tiny_pool(model_name):
    return records()[model_name]["arguments"].get("global_pool", "token")
