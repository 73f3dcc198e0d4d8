"""Passes a trained model on: model, checked exports, model card and browser page on the Hugging Face Hub."""

from keras_crossvit.publishing.publisher import publish

__all__ = ["publish"]
