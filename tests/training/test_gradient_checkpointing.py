import keras
import numpy as np
import pytest

from keras_crossvit.training.memory import enable_gradient_checkpointing
from tests.helpers.backends import gradient_function
from tests.helpers.models import images, tiny


def test_gradients_are_those_without_it_drop_path_included():
    results = []
    for again in (False, True):
        keras.utils.set_random_seed(3)
        model = tiny(depth=((1, 1, 0),), drop_path_rate=0.5)
        if again:
            enable_gradient_checkpointing(model)
        loss_of = lambda logits: keras.ops.mean(logits[:, 0] ** 2)  # noqa: E731
        results.append(gradient_function(model, images(model, batch=4), loss_of, training=True)())
    (loss, gradients), (loss_again, gradients_again) = results
    assert loss_again == loss
    for path, gradient in gradients.items():
        # The same sums in another order where gradients of one variable are added up.
        np.testing.assert_allclose(gradients_again[path], gradient, rtol=1e-5, atol=1e-7, err_msg=path)


def test_dropout_inside_is_refused():
    with pytest.raises(ValueError, match=r"drop_rate 0.1"):
        enable_gradient_checkpointing(tiny(depth=((1, 1, 0),), drop_rate=0.1))
