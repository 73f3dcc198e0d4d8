"""From an image file to the two inputs of an exported CrossViT, and from logits to names. Needs NumPy and Pillow."""

import numpy as np
from PIL import Image, ImageOps


def two_inputs(path: str, description: dict) -> dict[str, np.ndarray]:
    """Returns the file's inputs by name, float32 of shape (1, height, width, 3)."""
    facts = description["preprocessing"]
    (height, width), large_size = (np.broadcast_to(size, 2) for size in description["config"]["img_size"])
    image = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    # Resize until the crop is this fraction of the shorter side, and cut it out of the center.
    cover = [int(size / facts["crop_fraction"]) for size in (width, height)]
    size = [max(cover[i], cover[1 - i] * image.size[i] // image.size[1 - i]) for i in (0, 1)]
    left, top = round((size[0] - width) / 2), round((size[1] - height) / 2)
    pixels = image.resize(size, Image.Resampling.BICUBIC).crop((left, top, left + width, top + height))
    small = (np.asarray(pixels, "float32")[None] / 255 - facts["mean"]) / facts["std"]
    rows, columns = (bicubic(*sizes) for sizes in zip((height, width), large_size, strict=True))
    large = np.einsum("yh,bhwc,xw->byxc", rows, small, columns, optimize=True)
    return {"small_patch_image": small.astype("float32"), "large_patch_image": large.astype("float32")}


def bicubic(size: int, new_size: int) -> np.ndarray:
    """Returns the matrix that resizes an axis as PyTorch does; Pillow and OpenCV have other coefficients."""
    weights = np.zeros((new_size, size))
    for i, center in enumerate((np.arange(new_size) + 0.5) * size / new_size - 0.5):
        for j in range(int(np.floor(center)) - 1, int(np.floor(center)) + 3):
            d = abs(center - j)
            weight = 1.25 * d**3 - 2.25 * d**2 + 1 if d <= 1 else -0.75 * (d**3 - 5 * d**2 + 8 * d - 4)
            weights[i, min(max(j, 0), size - 1)] += weight
    return weights


def print_names(logits: np.ndarray, description: dict, top: int = 5) -> None:
    """Prints the most probable classes: their names, or for a model without class names their numbers."""
    names, activation = description["class_names"], description["classifier_activation"]
    logits = logits / description["calibration"]["temperature"]
    powers = np.exp(logits[0] - logits[0].max())
    is_sigmoid = activation == "sigmoid" or len(powers) == 1
    probabilities = 1 / (1 + np.exp(-logits[0])) if is_sigmoid else powers / powers.sum()
    for i in np.argsort(-probabilities)[:top]:
        print(f"{probabilities[i]:7.2%} {names[i] if names else i}")
