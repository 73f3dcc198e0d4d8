"""Training runs: recipes, exact resuming, what a run leaves behind, and evaluation."""

from keras_crossvit.training.callback_state import CarryingCallback
from keras_crossvit.training.plan import Plan, plan_training
from keras_crossvit.training.recipes import RECIPES, Recipe, get_recipe
from keras_crossvit.training.resume import ResumableState, fit_resumable
from keras_crossvit.training.run import TrainingResult, train

__all__ = [
    "RECIPES",
    "CarryingCallback",
    "Plan",
    "Recipe",
    "ResumableState",
    "TrainingResult",
    "fit_resumable",
    "get_recipe",
    "plan_training",
    "train",
]
