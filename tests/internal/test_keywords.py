"""Misspelt keywords of everything public."""

import dataclasses
import importlib
import inspect

import pytest

import keras_crossvit as kc
from keras_crossvit.models.config import CrossViTConfig
from keras_crossvit.pipeline import Augmentation
from keras_crossvit.training import Recipe

PACKAGES = ("checkpoints", "demo", "evaluation", "exporting", "pipeline", "preprocessing", "quickstart", "runtimes")
MODULES = [kc, *(importlib.import_module(f"keras_crossvit.{name}") for name in (*PACKAGES, "serving", "training"))]


def takes_only_named_keywords(thing):
    parameters = inspect.signature(thing).parameters.values() if inspect.isfunction(thing) else ()
    return parameters and all(each.kind is not inspect.Parameter.VAR_KEYWORD for each in parameters)


FUNCTIONS = {
    name: getattr(module, name)
    for module in MODULES
    for name in module.__all__
    if takes_only_named_keywords(getattr(module, name))
}


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_a_misspelt_keyword_is_refused_with_the_nearest(name):
    function = FUNCTIONS[name]
    keyword = list(inspect.signature(function).parameters)[-1]
    with pytest.raises(kc.CrossViTError, match=rf"{name}\(\) .*'{keyword}s?x'; did you mean '{keyword}'\?") as raised:
        function(**{f"{keyword}x": 1})
    assert isinstance(raised.value, TypeError)


def test_all_functions_are_looked_at():
    assert {"train", "evaluate", "export", "load_checkpoint", "preprocess", "serve", "write_demo"} < set(FUNCTIONS)


@pytest.mark.parametrize("kind", [Augmentation, Recipe, CrossViTConfig])
def test_a_misspelt_field_is_refused_with_the_nearest(kind):
    field = dataclasses.fields(kind)[-1].name
    with pytest.raises(kc.CrossViTError, match=rf"{kind.__name__}\(\) .*did you mean '{field}'"):
        kind(**{f"{field}x": 1})
