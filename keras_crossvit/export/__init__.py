"""From a trained model to an artefact that runs elsewhere, checked before it is there."""

from keras_crossvit.export.artefact import export
from keras_crossvit.export.formats import FORMATS
from keras_crossvit.export.report import ArtefactReport
from keras_crossvit.export.saved_model import ExportReport, export_saved_model, require_tensorflow_backend

__all__ = [
    "FORMATS",
    "ArtefactReport",
    "ExportReport",
    "export",
    "export_saved_model",
    "require_tensorflow_backend",
]
