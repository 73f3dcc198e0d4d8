import keras
import numpy as np
import pytest

from keras_crossvit import decode_predictions
from keras_crossvit.preprocessing.predictions import probability_function, softmax


def one_hot(*indices, width=1000):
    return np.eye(width, dtype="float32")[list(indices)]


def test_first_and_last_imagenet_class_are_named():
    decoded = decode_predictions(one_hot(0, 999), top=1)
    assert decoded == [[("n01440764", "tench", 1.0)], [("n15075141", "toilet_tissue", 1.0)]]


def test_identifiers_distinguish_the_two_imagenet_cranes():
    decoded = decode_predictions(one_hot(134, 517), top=1)
    assert [image[0][:2] for image in decoded] == [("n02012849", "crane"), ("n03126707", "crane")]


def test_most_probable_class_comes_first():
    probabilities = np.array([[0.1, 0.6, 0.3]], "float32")
    decoded = decode_predictions(probabilities, top=2, class_names=["cat", "dog", "owl"])
    assert [(identifier, name) for identifier, name, _ in decoded[0]] == [("dog", "dog"), ("owl", "owl")]
    assert [probability for *_, probability in decoded[0]] == pytest.approx([0.6, 0.3])


def test_five_classes_are_returned_unless_there_are_fewer():
    assert len(decode_predictions(one_hot(3))[0]) == 5
    assert len(decode_predictions(one_hot(1, width=2), class_names=["cat", "dog"])[0]) == 2


def test_tensors_of_the_backend_are_decoded():
    decoded = decode_predictions(keras.ops.convert_to_tensor(one_hot(1, width=2)), class_names=("cat", "dog"))
    assert decoded[0][0] == ("dog", "dog", 1.0)


@pytest.mark.parametrize(
    ("shape", "class_names", "message"),
    [
        ((2, 10), None, r"\(2, 10\).*\(B, 1000\).*class_names="),
        ((1000,), None, r"\(1000,\)"),
        ((1, 1, 1000), None, r"\(1, 1, 1000\)"),
        ((1, 3), ["cat", "dog"], r"\(1, 3\) .*2 class names"),
    ],
)
def test_shapes_that_do_not_match_the_class_names_are_refused(shape, class_names, message):
    with pytest.raises(ValueError, match=message):
        decode_predictions(np.zeros(shape), class_names=class_names)


def test_top_below_one_is_refused():
    with pytest.raises(ValueError, match="top 0"):
        decode_predictions(one_hot(0), top=0)


def test_softmax_of_large_logits_is_finite():
    np.testing.assert_allclose(softmax(np.array([[1000.0, 1000.0]])), [[0.5, 0.5]])


@pytest.mark.parametrize(
    ("value", "named"),
    [(-0.0099, "-0.0"), (1.01, "1.0"), (87.0, "87"), (-5.0, "-5"), (np.nan, "nan"), (np.inf, "inf"), (-np.inf, "-inf")],
)
@pytest.mark.parametrize("kind", [np.float32, np.float16, list])
def test_values_that_are_not_probabilities_are_refused(value, named, kind):
    rows = [[0.2, 0.8], [0.5, value]]
    table = rows if kind is list else np.array(rows, kind)
    with pytest.raises(ValueError, match=rf"{named}.* (outside|not finite)"):
        decode_predictions(table, class_names=["cat", "dog"])


@pytest.mark.parametrize("row", [[0.9, 0.8], [0.0, 0.1], [1.0, 1.0005], [-1e-8, 1.0], [True, False], [0, 1]])
def test_sigmoids_and_rounded_values_are_probabilities(row):
    assert len(decode_predictions([row], class_names=["cat", "dog"])[0]) == 2


def test_model_of_one_class_is_decoded():
    assert decode_predictions([[0.25], [1.0]], class_names=["dog"]) == [[("dog", "dog", 0.25)], [("dog", "dog", 1.0)]]
    with pytest.raises(ValueError, match="'dog' is a string"):
        decode_predictions([[0.25]], class_names="dog")


@pytest.mark.parametrize(
    ("activation", "num_classes", "function"),
    [
        (None, 2, "softmax"),
        ("linear", 2, "softmax"),
        ("softmax", 2, "softmax"),
        ("sigmoid", 2, "sigmoid"),
        (None, 1, "sigmoid"),
        ("linear", 1, "sigmoid"),
        ("sigmoid", 1, "sigmoid"),
    ],
)
def test_one_logit_needs_a_sigmoid(activation, num_classes, function):
    assert probability_function(activation, num_classes) == function


@pytest.mark.parametrize("num_classes", [1, 2])
def test_other_activations_need_keras(num_classes):
    with pytest.raises(ValueError, match="'tanh' needs Keras"):
        probability_function("tanh", num_classes)


@pytest.mark.parametrize("dtype", ["uint8", "bool", "int64", "float16"])
def test_every_dtype_is_sorted(dtype):
    assert decode_predictions(one_hot(1, width=3).astype(dtype), 1, ["a", "b", "c"]) == [[("b", "b", 1.0)]]
