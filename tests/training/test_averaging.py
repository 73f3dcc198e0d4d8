import keras
import numpy as np
import pytest

from keras_crossvit.training.optimization import EvaluateAverages


@pytest.fixture
def model():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile(keras.optimizers.SGD(0.3, use_ema=True, ema_momentum=0.5), "mse", jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    random = np.random.default_rng(0)
    for _ in range(3):
        gradients = [random.normal(size=variable.shape).astype("float32") for variable in model.trainable_variables]
        model.optimizer.apply([keras.ops.convert_to_tensor(gradient) for gradient in gradients])
    return model


def test_the_mean_takes_the_place_of_the_weights_and_leaves_it_exactly(model):
    weights = model.get_weights()
    means = [keras.ops.convert_to_numpy(each) for each in model.optimizer._model_variables_moving_average]
    with EvaluateAverages().in_place(model):
        for seen, mean in zip(model.get_weights(), means, strict=True):
            np.testing.assert_array_equal(seen, mean)
    for seen, weight in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(seen, weight)


def test_evaluation_changes_nothing(model):
    weights = model.get_weights()
    model.evaluate(np.ones((4, 3)), np.ones((4, 2)), callbacks=[EvaluateAverages()], verbose=0)
    for seen, weight in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(seen, weight)
