import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from sklearn.datasets import load_sample_images

import keras_crossvit as kc
from keras_crossvit.exporting.graph_preprocessing import decode_image, model_inputs, resize_and_crop, to_gray
from keras_crossvit.exporting.serving_requests import bytes_of_no_image, drawn_image, encoded
from keras_crossvit.exporting.signatures import signatures
from keras_crossvit.preprocessing.images import read_image
from keras_crossvit.preprocessing.transforms import IMAGENET_STD
from tests.helpers.backends import call
from tests.helpers.exports import confident_model, overflowing_model
from tests.helpers.models import images, tiny


@pytest.fixture(scope="module")
def photographs():
    return load_sample_images().images


@pytest.fixture(scope="module")
def served(letters):
    """Calls a signature of the SavedModel by name and returns arrays."""
    _, exported = letters
    loaded = tf.saved_model.load(str(exported.path))

    def ask(name, **tensors):
        return {output: tensor.numpy() for output, tensor in loaded.signatures[name](**tensors).items()}

    return ask


@pytest.mark.parametrize("name", ["crossvit_9_dagger", "crossvit_15_dagger_408"])
def test_photographs_are_preprocessed_as_by_pillow(name, photographs):
    config = kc.variant_config(name)
    small, large = (np.asarray(each) for each in model_inputs(resize_and_crop(np.stack(photographs), config), config))
    wanted_small, wanted_large = kc.preprocess(list(photographs), config)
    differs = np.abs(small - wanted_small) > 1e-5
    assert 0 < differs.mean() < 7e-4  # Pillow multiplies in fixed point, TensorFlow in float32
    assert np.abs(small - wanted_small).max() < 1.01 / 255 / min(IMAGENET_STD)  # by 1 of 255 at most
    unlike = np.abs(large - wanted_large)
    assert unlike.max() < 2.02 / 255 / min(IMAGENET_STD)  # bicubic weights add up to 1.5 in absolute value per axis
    assert np.sqrt((unlike**2).mean()) < 5e-4


def test_floats_are_not_rounded(photographs):
    config = kc.variant_config("crossvit_9_dagger", img_size=(48, 32))
    floats = photographs[0][None].astype("float32")
    small, large = model_inputs(resize_and_crop(tf.constant(floats), config), config)
    for one, other in zip((small, large), kc.preprocess(floats, config), strict=True):
        # Bicubic weights of hundreds of pixels, added in another order.
        np.testing.assert_allclose(one, other, rtol=0, atol=2e-4)


@pytest.mark.parametrize("shape", [(33, 90), (90, 33), (1, 1), (48, 48), (55, 54)])
def test_images_of_any_shape_are_cropped_as_by_pillow(shape):
    config = kc.variant_config("crossvit_9_dagger", img_size=((96, 48), (64, 32)))
    image = np.resize(drawn_image(), (1, *shape, 3))
    unlike = np.asarray(model_inputs(resize_and_crop(image, config), config)[0]) - kc.preprocess(image, config)[0]
    assert np.abs(unlike).max() < 1.01 / 255 / min(IMAGENET_STD)


@pytest.mark.parametrize(
    ("file_format", "mode"),
    [
        *(("JPEG", mode) for mode in ("RGB", "L", "CMYK")),
        *(("PNG", mode) for mode in ("RGB", "RGBA", "L", "LA", "P", "1")),
    ],
)
def test_bytes_are_decoded_as_by_pillow(mode, file_format, tmp_path):
    Image.fromarray(drawn_image()).convert(mode).save(tmp_path / "image", file_format)
    decoded = decode_image(tf.constant((tmp_path / "image").read_bytes()))
    np.testing.assert_array_equal(decoded, read_image(tmp_path / "image"))


def test_transparency_becomes_white_as_by_pillow(tmp_path):
    alpha = np.resize(np.arange(256, dtype="uint8"), (90, 120, 1))
    Image.fromarray(np.concatenate([drawn_image(), alpha], axis=-1)).save(tmp_path / "image.png")
    decoded = decode_image(tf.constant((tmp_path / "image.png").read_bytes()))
    np.testing.assert_array_equal(decoded, read_image(tmp_path / "image.png"))


@pytest.mark.parametrize("orientation", range(10))
def test_exif_orientation_of_jpegs_is_applied(orientation, tmp_path):
    exif = Image.Exif()
    exif[0x010F] = "maker"
    exif[0x0112] = orientation
    Image.fromarray(drawn_image()).save(tmp_path / "image.jpg", exif=exif)
    contents = (tmp_path / "image.jpg").read_bytes()
    np.testing.assert_array_equal(decode_image(tf.constant(contents)), read_image(tmp_path / "image.jpg"))


def test_invalid_exif_is_ignored(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(drawn_image()).save(tmp_path / "image.jpg", exif=exif)
    contents = (tmp_path / "image.jpg").read_bytes()
    directory = contents.index(b"Exif") + 10
    far_away = contents[:directory] + b"\xf0\xff\xff\xff" + contents[directory + 4 :]
    assert decode_image(tf.constant(contents)).shape == (120, 90, 3)
    assert decode_image(tf.constant(far_away)).shape == (90, 120, 3)


def test_images_get_the_logits_of_their_preprocessed_inputs(letters, served):
    model, _ = letters
    # Floats are never rounded; of the uint8 values one in a thousand differs by 1 of 255.
    for name, dtype, tolerance in (("single_image", "uint8", 2e-4), ("single_image_float", "float32", 1e-5)):
        image = drawn_image()[None].astype(dtype)
        logits = call(model, kc.preprocess(image, model))
        answer = served(name, image=tf.constant(image))
        np.testing.assert_allclose(answer["logits"], logits, rtol=0, atol=tolerance)
        np.testing.assert_allclose(answer["probabilities"].sum(axis=1), 1, atol=1e-6)


def test_invalid_bytes_do_not_change_the_rest_of_the_batch(served):
    good = [encoded(drawn_image(), "PNG"), encoded(drawn_image()[:, ::-1], "JPEG")]
    bad = bytes_of_no_image()
    alone = served("image_bytes", image_bytes=tf.constant(good))
    together = served("image_bytes", image_bytes=tf.constant([bad[0], good[0], *bad[1:], good[1]]))
    assert alone["valid"].all()
    assert together["valid"].tolist() == [False, True, False, False, False, True]
    for name in ("probabilities", "class_ids", "class_names"):
        assert alone[name].shape == (2, 5)
    np.testing.assert_allclose(together["probabilities"][[1, 5]], alone["probabilities"], rtol=0, atol=1e-6)
    assert (together["class_ids"][[0, 2, 3, 4]] == -1).all()
    assert (together["class_names"][[0, 2, 3, 4]] == b"").all()
    assert (together["probabilities"][[0, 2, 3, 4]] == 0).all()


def test_top_classes_are_sorted_by_probability(served):
    image = drawn_image()
    best = served("image_bytes", image_bytes=tf.constant([encoded(image, "PNG")]))
    every = served("single_image", image=tf.constant(image[None]))["probabilities"][0]
    assert best["class_ids"][0].tolist() == np.argsort(-every).tolist()
    assert [name.decode() for name in best["class_names"][0]] == ["abcde"[i] for i in best["class_ids"][0]]
    np.testing.assert_allclose(best["probabilities"][0], np.sort(every)[::-1], rtol=0, atol=1e-6)


@pytest.mark.parametrize("bad", [[], bytes_of_no_image()], ids=["empty", "all invalid"])
def test_batches_without_a_valid_image_are_answered(bad, served):
    answer = served("image_bytes", image_bytes=tf.constant(bad, tf.string))
    assert answer["valid"].tolist() == [False] * len(bad)
    assert answer["class_ids"].shape == (len(bad), 5)


@pytest.mark.parametrize(("name", "shape"), [("single_image", (0, 60, 70, 3)), ("single_image_float", (0, 0, 0, 3))])
def test_empty_batch_of_images_is_refused_with_the_reason(name, shape, served):
    image = tf.zeros(shape, "uint8" if name == "single_image" else "float32")
    with pytest.raises(tf.errors.InvalidArgumentError, match="The batch is empty"):
        served(name, image=image)


@pytest.mark.parametrize(
    ("counts", "reason"),
    [((0, 0), "The batch is empty"), ((2, 1), "do not pair"), ((1, 2), "do not pair")],
)
def test_inputs_that_do_not_pair_are_refused_with_the_reason(counts, reason, served, letters):
    given = zip(counts, letters[0].inputs, strict=True)
    tensors = {each.name: tf.zeros((count, *each.shape[1:])) for count, each in given}
    with pytest.raises(tf.errors.InvalidArgumentError, match=reason):
        served("serving_default", **tensors)


def test_declared_pixels_are_limited_before_decoding(served):
    wide = encoded(np.zeros((1, 30_000, 3), "uint8"), "PNG")
    assert served("image_bytes", image_bytes=tf.constant([wide]))["valid"].tolist() == [True]
    cut_off = io.BytesIO()
    Image.new("1", (10_000, 9_000)).save(cut_off, "PNG")  # complete, and 521,515 pixels too many
    assert served("image_bytes", image_bytes=tf.constant([cut_off.getvalue()]))["valid"].tolist() == [False]


@pytest.mark.parametrize("shape", [(1, 100_000, 3), (100_000, 1, 3)])
def test_images_too_narrow_for_preprocess_are_refused_one_by_one(shape, served, letters):
    line = np.zeros(shape, "uint8")
    with pytest.raises(ValueError, match="is too narrow"):
        kc.preprocess(line, letters[0])
    with pytest.raises(tf.errors.InvalidArgumentError, match="is too narrow"):
        served("single_image", image=tf.constant(line[None]))
    files = [encoded(line, "PNG"), encoded(drawn_image(), "PNG")]
    assert served("image_bytes", image_bytes=tf.constant(files))["valid"].tolist() == [False, True]


def test_color_becomes_gray_for_models_with_one_channel():
    image = drawn_image()
    config = kc.variant_config("crossvit_9_dagger", img_size=(48, 32), in_channels=1)
    small = model_inputs(resize_and_crop(to_gray(image)[None], config), config)[0]
    assert np.abs(np.asarray(small) - kc.preprocess(image, config)[0]).max() < 1.01 / 255 / np.mean(IMAGENET_STD)


def test_image_bytes_need_a_classifier_and_one_or_three_channels():
    def names(num_classes=5, **arguments):
        return set(signatures(tiny(num_classes, **arguments)))

    without_bytes = {"serving_default", "single_image", "single_image_float"}
    assert names() == names(in_channels=1) == {*without_bytes, "image_bytes"}
    assert names(in_channels=4) == names(num_classes=0) == without_bytes


def test_model_with_an_activation_has_logits_and_probabilities():
    model = tiny(classifier_activation="sigmoid")
    inputs = images(model)
    outputs = signatures(model)["serving_default"](*map(tf.constant, inputs))
    np.testing.assert_allclose(outputs["probabilities"], call(model, inputs), atol=1e-6)
    np.testing.assert_allclose(tf.sigmoid(outputs["logits"]), outputs["probabilities"], atol=1e-6)


@pytest.mark.parametrize("activation", [None, "linear", "sigmoid"])
def test_probability_of_one_class_is_a_sigmoid_in_every_signature(activation):
    model = confident_model(num_classes=1, class_names=["dog"], classifier_activation=activation)
    named = signatures(model)
    image = tf.constant(drawn_image()[None])
    answers = {
        "serving_default": named["serving_default"](*map(tf.constant, images(model))),
        "single_image": named["single_image"].python_function(image),  # eagerly: TensorFlow optimizes one graph
        "single_image_float": named["single_image_float"].python_function(tf.cast(image, "float32")),
    }
    for answer in answers.values():
        np.testing.assert_allclose(answer["probabilities"], tf.sigmoid(answer["logits"]), rtol=0, atol=1e-6)
    named_image = named["image_bytes"].python_function([encoded(drawn_image(), "PNG"), b"not an image"])
    wanted = answers["single_image"]["probabilities"].numpy()[0, 0]
    assert 0.001 < wanted < 0.999
    np.testing.assert_allclose(named_image["probabilities"], [[wanted], [0]], rtol=0, atol=1e-6)
    assert named_image["class_names"].numpy().tolist() == [[b"dog"], [b""]]


def test_probabilities_of_images_must_be_finite():
    function = signatures(overflowing_model())["image_bytes"]
    with pytest.raises(tf.errors.InvalidArgumentError, match="probabilities are not finite"):
        function(tf.constant([encoded(drawn_image(), "PNG")]))
