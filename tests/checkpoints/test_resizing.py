import numpy as np
import pytest

from keras_crossvit.checkpoints.adaptation import (
    adapt_input_channels,
    antialiased_bicubic_weights,
    resize_position_embedding,
)
from tests.helpers.reference import surroundings

GRIDS = {"up": ((20, 20), (34, 34)), "down": ((20, 20), (14, 14)), "non_square": ((14, 14), (10, 21))}


@pytest.mark.parametrize("case", GRIDS)
def test_position_embeddings_are_those_of_timm(case):
    given, wanted = (surroundings()[f"pos_embed/{case}/{side}"] for side in ("in", "out"))
    resized = resize_position_embedding(given, *GRIDS[case])
    assert resized.dtype == np.float32
    # Rounding of float32: timm sums in float32, we in float64.
    np.testing.assert_allclose(resized, wanted, rtol=0, atol=1e-5)


def test_row_of_the_class_token_is_kept_bit_for_bit():
    given = surroundings()["pos_embed/up/in"]
    np.testing.assert_array_equal(resize_position_embedding(given, (20, 20), (7, 30))[:, 0], given[:, 0])


def test_same_grid_changes_nothing():
    given = surroundings()["pos_embed/up/in"]
    np.testing.assert_array_equal(resize_position_embedding(given, (20, 20), (20, 20)), given)


def test_transposed_grid_of_as_many_patches_is_resized():
    given = np.random.RandomState(0).randn(1, 1 + 12, 2).astype("float32")
    assert not np.allclose(resize_position_embedding(given, (3, 4), (4, 3)), given)


@pytest.mark.parametrize(("source_size", "target_size"), [(20, 34), (34, 20), (1, 5), (5, 1)])
def test_constant_position_embeddings_stay_constant(source_size, target_size):
    weights = antialiased_bicubic_weights(source_size, target_size)
    np.testing.assert_allclose(weights @ np.ones(source_size), np.ones(target_size), rtol=1e-12)


@pytest.mark.parametrize("in_channels", [1, 2, 4, 5])
def test_first_convolutions_are_those_of_timm(in_channels):
    adapted = adapt_input_channels(surroundings()["stem/in"], in_channels)
    assert adapted.dtype == np.float32
    # Rounding of float32, in which the sum of three channels may be taken in another order.
    np.testing.assert_allclose(adapted, surroundings()[f"stem/{in_channels}_channels"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("in_channels", [1, 6])
def test_images_of_equal_channels_get_the_response_they_had(in_channels):
    kernel = surroundings()["stem/in"]
    adapted = adapt_input_channels(kernel, in_channels)
    np.testing.assert_allclose(adapted.sum(axis=1), kernel.sum(axis=1), rtol=0, atol=1e-5)  # float32 sums
