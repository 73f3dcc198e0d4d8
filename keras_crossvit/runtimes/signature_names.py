"""What every server takes for the bytes of picture files and answers, by names that are the same in all protocols."""

from __future__ import annotations

BYTES_NAME = "image_bytes"  # the input, and in a SavedModel also the signature that takes it
CLASS_IDS = "class_ids"
CLASS_NAMES = "class_names"
PROBABILITIES = "probabilities"
VALID = "valid"
