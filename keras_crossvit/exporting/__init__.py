"""Exports models to other formats, and keeps an export only if it reproduces the model's outputs."""

from keras_crossvit.exporting.exporter import ExportResult, export, require_tensorflow_backend
from keras_crossvit.exporting.serving_files import write_serving_files

__all__ = ["ExportResult", "export", "require_tensorflow_backend", "write_serving_files"]
