"""Evaluation of a model on labelled images: metrics, plots and tables."""

from keras_crossvit.evaluation.evaluator import evaluate
from keras_crossvit.evaluation.results import Evaluation, EvaluationResult, MultiLabelEvaluation

__all__ = ["Evaluation", "EvaluationResult", "MultiLabelEvaluation", "evaluate"]
