"""Writes a web page that runs a model in the browser."""

from keras_crossvit.demo.page import write_demo

__all__ = ["write_demo"]
