"""Serves an exported model and classifies images on a model server."""

from keras_crossvit.serving.client import Prediction, classify_files_on_server, classify_on_server
from keras_crossvit.serving.server import serve

__all__ = ["Prediction", "classify_files_on_server", "classify_on_server", "serve"]
