"""From a trained model to an artefact that runs elsewhere, checked before it is there."""

from keras_crossvit.export.saved_model import ExportReport, export_saved_model, require_tensorflow_backend

__all__ = ["ExportReport", "export_saved_model", "require_tensorflow_backend"]
