"""The model: configuration, published variants, model class, and functions that build, load and wrap models."""

from keras_crossvit.models.arguments import BuildArguments, ConfigFields, ModelArguments

__all__ = ["BuildArguments", "ConfigFields", "ModelArguments"]
