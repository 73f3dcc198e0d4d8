"""Evaluation of a model on labelled images: metrics, plots and tables."""
