"""Training runs: recipes, exact resuming, what a run leaves behind, and evaluation."""

from keras_crossvit.training.carried import CarryingCallback
from keras_crossvit.training.evaluation import evaluate
from keras_crossvit.training.outcome import Evaluation, MultiLabelEvaluation
from keras_crossvit.training.plan import Plan, plan_training
from keras_crossvit.training.recipe import Recipe
from keras_crossvit.training.recipes import RECIPES, get_recipe
from keras_crossvit.training.resuming import ExactResume, fit_exactly
from keras_crossvit.training.run import TrainingResult, train

__all__ = [
    "RECIPES",
    "CarryingCallback",
    "Evaluation",
    "ExactResume",
    "MultiLabelEvaluation",
    "Plan",
    "Recipe",
    "TrainingResult",
    "evaluate",
    "fit_exactly",
    "get_recipe",
    "plan_training",
    "train",
]
