"""Training runs: recipes, exact resuming, run folders and reports."""

from keras_crossvit.training.plan import Plan, plan_training
from keras_crossvit.training.recipes import RECIPES, Recipe, get_recipe, recipe_toml
from keras_crossvit.training.report import TrainingResult
from keras_crossvit.training.resume import Interval, ResumableState, RunInterrupted, fit_resumable
from keras_crossvit.training.run import train
from keras_crossvit.training.state import StatefulCallback

__all__ = [
    "RECIPES",
    "Interval",
    "Plan",
    "Recipe",
    "ResumableState",
    "RunInterrupted",
    "StatefulCallback",
    "TrainingResult",
    "fit_resumable",
    "get_recipe",
    "plan_training",
    "recipe_toml",
    "train",
]
