import pytest

from keras_crossvit.training import get_recipe
from keras_crossvit.training.dry_run import training_state_bytes
from keras_crossvit.training.optimization import make_optimizer
from tests.helpers.models import tiny


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"optimizer": "lion", "ema_momentum": None},
        {"optimizer": "sgd", "batch_size": 4, "gradient_accumulation_steps": 2},
    ],
)
def test_training_state_counts_the_variables_of_the_optimizer(settings):
    recipe, model = get_recipe("finetune", layer_decay=None, **settings), tiny()
    model.get_layer("small_patch_head").trainable = False
    optimizer = make_optimizer(model, recipe, 10)
    optimizer.build(model.trainable_variables)
    trained = sum(each.shape.num_elements() for each in (variable.value for variable in model.trainable_variables))
    # Variables of one value, such as the step, are not counted.
    state = sum(variable.value.shape.num_elements() for variable in optimizer.variables if len(variable.shape))
    assert training_state_bytes(recipe, model.count_params(), trained) == 4 * (model.count_params() + trained + state)
