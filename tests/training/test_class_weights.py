import numpy as np
import pytest
import tensorflow as tf

from keras_crossvit.pipeline import open_dataset
from keras_crossvit.training.optimization import class_weights_of, weighted
from tests.helpers import collections


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """One picture of the first class, two of the others."""
    folder = collections.write_plain(tmp_path_factory.mktemp("plain"), 2)
    (folder / "bleu" / "1.jpg").unlink()
    return open_dataset(folder)


def test_balanced_classes_count_alike(source):
    weights = class_weights_of("balanced", source)
    assert weights == pytest.approx((5 / 3, 5 / 6, 5 / 6))
    assert np.bincount(source.training.labels) * weights == pytest.approx(5 / 3)


def test_classes_that_are_not_named_weigh_one(source):
    assert class_weights_of({"rouge": 2.5}, source) == (1.0, 1.0, 2.5)
    assert class_weights_of(None, source) is None


@pytest.mark.parametrize(
    ("wish", "message"),
    [({"noir": 2}, "name 'noir', which is no class"), ("even", "neither 'balanced' nor"), ({"rouge": 0}, "'rouge'")],
)
def test_odd_wishes_are_refused(source, wish, message):
    with pytest.raises(ValueError, match=message):
        class_weights_of(wish, source)


def test_a_mixed_image_weighs_as_its_shares_do():
    target = np.array([[1, 0, 0], [0.25, 0.75, 0]], "float32")
    batches = tf.data.Dataset.from_tensors(((np.zeros(2), np.zeros(2)), target))
    ((_, kept, weight),) = weighted(batches, (2.0, 4.0, 1.0))
    np.testing.assert_array_equal(kept, target)
    np.testing.assert_allclose(weight, [2.0, 3.5])
    assert weighted(batches, None) is batches
