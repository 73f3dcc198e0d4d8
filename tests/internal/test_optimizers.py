"""Variables that are excluded from weight decay stay excluded when a model is saved, loaded or copied."""

import copy
import warnings

import keras
import pytest

import keras_crossvit as kc
from keras_crossvit._internal.optimizers import FusedAdamWWithExclusions, excluding
from keras_crossvit.training import finetuning
from tests.helpers.models import tiny

RATES = {"learning_rate": 1e-3, "weight_decay": 100.0}  # a step shrinks decayed variables by a tenth


@keras.saving.register_keras_serializable(package="tests")
class CustomAdamW(keras.optimizers.AdamW):
    pass


def small_model(**arguments):
    return tiny(num_classes=3, **arguments)


def decayed(model):
    """Returns the paths of the variables that a step with zero gradients changes."""
    variables = model.trainable_variables
    for variable in variables:
        variable.assign(keras.ops.ones(variable.shape))
    model.optimizer.apply([keras.ops.zeros(variable.shape) for variable in variables], variables)
    return {variable.path for variable in variables if float(keras.ops.min(variable)) < 0.95}


def by_list(optimizer):
    def make(model):
        made = optimizer(**RATES)
        made.exclude_from_weight_decay(finetuning.no_weight_decay_variables(model))
        return made

    return make


def by_names(model):
    optimizer = keras.optimizers.AdamW(**RATES)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta", "token", "position"])
    return optimizer


def one_for_each_branch(model):
    small, large = (by_list(keras.optimizers.AdamW)(model), keras.optimizers.AdamW(**RATES))
    return keras.optimizers.MultiOptimizer(keras.optimizers.OptimizerMap(large, {".*small_patch.*": small}))


def layer_wise(model):
    excluded = finetuning.no_weight_decay_variables(model)
    adamw = keras.optimizers.AdamW(**RATES)
    return finetuning.layer_wise_optimizer(model, adamw, decay=1.0, exclude_from_weight_decay=excluded)


def loss_scaled(model):
    layer_wise_sgd = finetuning.layer_wise_optimizer(model, by_list(keras.optimizers.SGD)(model), decay=1.0)
    return keras.optimizers.LossScaleOptimizer(layer_wise_sgd)


def compiled(make, model=None):
    model = model or small_model()
    model.compile(make(model), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


@pytest.mark.parametrize(
    "make",
    [
        *map(by_list, (keras.optimizers.AdamW, FusedAdamWWithExclusions)),
        by_names,
        one_for_each_branch,
        layer_wise,
        loss_scaled,
    ],
)
def test_exclusions_survive_saving_loading_copying_and_cloning(make, tmp_path):
    model = compiled(make)
    expected = decayed(model)
    excluded = {variable.path for variable in finetuning.no_weight_decay_variables(model)}
    if make is one_for_each_branch:
        excluded = {path for path in excluded if "small_patch" in path}
    assert {variable.path for variable in model.trainable_variables} - expected == excluded
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    copies = {"loaded": loaded, "copy": copy.deepcopy(loaded), "clone": keras.models.clone_model(loaded)}
    assert {name: decayed(each) for name, each in copies.items()} == dict.fromkeys(copies, expected)


def test_exclusions_survive_mixed_precision(tmp_path):
    model = compiled(by_list(keras.optimizers.AdamW), small_model(dtype="mixed_float16"))
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    expected = decayed(model)
    model.save(tmp_path / "model.keras")
    assert decayed(keras.saving.load_model(tmp_path / "model.keras")) == expected


def by_excluding(model):
    return excluding(keras.optimizers.SGD(**RATES), finetuning.no_weight_decay_variables(model))


@pytest.mark.parametrize("make", [layer_wise, by_excluding])
def test_exclusions_survive_in_a_wrapper(make, tmp_path):
    model = small_model()
    optimizer = make(model)
    wrapper = compiled(lambda _: optimizer, kc.single_image(model))
    expected = decayed(wrapper)
    assert len(expected) < len(wrapper.trainable_variables)
    wrapper.save(tmp_path / "wrapper.keras")
    assert decayed(keras.saving.load_model(tmp_path / "wrapper.keras")) == expected


def test_exclusions_after_loading_replace_earlier_ones(tmp_path):
    model = compiled(by_list(keras.optimizers.AdamW))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    head = [variable for variable in loaded.trainable_variables if "head" in variable.path]
    loaded.optimizer.exclude_from_weight_decay(head)
    loaded.save(tmp_path / "again.keras")
    again = keras.saving.load_model(tmp_path / "again.keras")
    for each in (loaded, again):
        assert {variable.path for variable in each.trainable_variables} - decayed(each) == {v.path for v in head}


def test_variables_of_frozen_layers_stay_excluded(tmp_path):
    model = small_model()
    optimizer = by_list(keras.optimizers.AdamW)(model)
    finetuning.freeze_all_but_head(model)
    compiled(lambda _: optimizer, model).save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    finetuning.unfreeze(loaded)
    loaded.compile(type(loaded.optimizer).from_config(loaded.optimizer.get_config()))
    excluded = {variable.path for variable in finetuning.no_weight_decay_variables(loaded)}
    assert {variable.path for variable in loaded.trainable_variables} - decayed(loaded) == excluded


def test_a_custom_optimizer_warns_only_if_exclusions_are_lost(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        compiled(lambda _: CustomAdamW(**RATES)).save(tmp_path / "model.keras")
    model = compiled(by_list(CustomAdamW))
    excluded = len(finetuning.no_weight_decay_variables(model))
    with pytest.warns(UserWarning, match=rf"CustomAdamW .* {excluded} variables .*exclude_from_weight_decay"):
        model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    loaded.optimizer.exclude_from_weight_decay(finetuning.no_weight_decay_variables(loaded))
    assert decayed(loaded) == decayed(model)
