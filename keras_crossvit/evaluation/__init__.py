"""Evaluation of a model on labelled images: metrics, plots and tables."""

from keras_crossvit.evaluation.evaluator import evaluate, evaluate_splits
from keras_crossvit.evaluation.results import Evaluation, EvaluationResult, MultiLabelEvaluation

__all__ = ["Evaluation", "EvaluationResult", "MultiLabelEvaluation", "evaluate", "evaluate_splits"]
