"""Names of the tensors for image files and their predictions, the same in every serving protocol."""

from __future__ import annotations

BYTES_NAME = "image_bytes"  # the input, and in a SavedModel also its signature
CLASS_IDS = "class_ids"
CLASS_NAMES = "class_names"
PROBABILITIES = "probabilities"
VALID = "valid"
