"""From a trained model to an artefact that runs elsewhere, checked before it is there."""

from keras_crossvit.exporting.exporter import ExportResult, export
from keras_crossvit.exporting.formats import FORMATS
from keras_crossvit.exporting.saved_model_writer import ExportReport, export_saved_model, require_tensorflow_backend

__all__ = [
    "FORMATS",
    "ExportReport",
    "ExportResult",
    "export",
    "export_saved_model",
    "require_tensorflow_backend",
]
