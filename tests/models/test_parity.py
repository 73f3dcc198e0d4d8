"""Agreement of weight decay and learning rates with timm."""

import pytest

import keras_crossvit
from keras_crossvit.checkpoints import timm_name
from keras_crossvit.models.variants import VARIANTS
from keras_crossvit.training import finetuning
from tests.helpers import timm_reference

pytestmark = [
    pytest.mark.parity,
    pytest.mark.skipif(not timm_reference.is_installed(), reason=f"needs timm: {timm_reference.INSTALLATION}"),
]


def create_timm_model(variant):
    timm = timm_reference.import_timm()
    return timm.create_model(VARIANTS[variant].timm_name, pretrained=False)


def timm_groups(groups, model):
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {names[id(parameter)]: group for group in groups for parameter in group["params"]}


def test_variables_without_weight_decay_equal_timm():
    timm_reference.import_timm()
    from timm.optim import param_groups_weight_decay

    theirs, ours = create_timm_model("crossvit_9_dagger"), keras_crossvit.crossvit_9_dagger()
    groups = timm_groups(param_groups_weight_decay(theirs, 0.05, no_weight_decay_list=theirs.no_weight_decay()), theirs)
    without = {timm_name(variable.path, ours.config) for variable in finetuning.no_weight_decay_variables(ours)}
    assert without == {name for name, group in groups.items() if group["weight_decay"] == 0}


def test_layer_wise_learning_rates_equal_timm():
    timm_reference.import_timm()
    from timm.optim import param_groups_layer_decay

    theirs, ours = create_timm_model("crossvit_9_dagger"), keras_crossvit.crossvit_9_dagger()
    groups = timm_groups(param_groups_layer_decay(theirs, layer_decay=0.5), theirs)
    scales = finetuning.learning_rate_scales(ours, decay=0.5)
    by_timm_name = {timm_name(path, ours.config): scale for path, scale in scales.items()}
    assert by_timm_name == {name: group["lr_scale"] for name, group in groups.items()}
