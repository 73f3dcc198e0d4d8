import dataclasses
import functools
import inspect
import typing
import warnings

import keras
import numpy as np
import pytest
from keras import ops

import keras_crossvit as kc
from keras_crossvit.models import ConfigFields, ModelArguments
from tests.helpers.backends import call
from tests.helpers.models import DEEPER, TINY, images, tiny


@pytest.mark.parametrize("name", kc.list_models())
def test_every_published_model_has_a_function(name):
    model = getattr(kc, name)(num_classes=3, embed_dim=(16, 32), num_heads=(2, 2), img_size=(48, 32))
    assert isinstance(model, kc.CrossViT)
    assert model.name == name
    assert model.config.num_classes == 3
    assert model.config.depth == kc.variant_config(name).depth


def test_inputs_and_output_have_their_names_and_shapes():
    model = kc.crossvit_9_dagger()
    assert [each.name for each in model.inputs] == ["small_patch_image", "large_patch_image"]
    assert [each.shape for each in model.inputs] == [(None, 240, 240, 3), (None, 224, 224, 3)]
    assert model.output_names == ["logits"]
    assert model.output_shape == (None, 1000)
    assert model.count_params() == 8_776_592


def test_inputs_may_be_a_dictionary():
    model = tiny()
    small, large = images(model)
    by_name = model({"large_patch_image": large, "small_patch_image": small})
    np.testing.assert_array_equal(ops.convert_to_numpy(by_name), call(model, [small, large]))


@pytest.mark.parametrize(
    "arguments",
    [
        {"in_channels": 1},
        {"img_size": [[96, 48], (64, 32)]},
        {"patch_size": [16, 12], "img_size": [32, 48]},
        {"qkv_bias": False},
        {"qk_scale": 0.3},
        {"drop_rate": 0.2, "attn_drop_rate": 0.2, "drop_path_rate": 0.2},
        {"multi_conv": False},
        {"depth": [[2, 1, 2]]},
        {"mlp_ratio": [1.5, 0.5]},
        {"pool": "avg"},
        {"embed_dim": [16, 16], "num_heads": [2, 4]},
    ],
    ids="-".join,
)
def test_every_keyword_reaches_the_network(arguments):
    model = tiny(**arguments)
    fields = {keyword: value for keyword, value in arguments.items() if keyword != "pool"}
    assert model.config == kc.variant_config("crossvit_9_dagger", num_classes=5, **{**TINY, **fields})
    assert model.pool == arguments.get("pool", "token")
    outputs = call(model, images(model))
    assert outputs.shape == (2, 5)
    assert np.isfinite(outputs).all()
    plain = tiny()
    changed_shapes = [w.shape for w in model.weights] != [w.shape for w in plain.weights]
    if not changed_shapes:  # the keyword must change the result
        model.set_weights(plain.get_weights())
        training = "drop_rate" in arguments
        same_inputs = images(plain)
        first, second = (ops.convert_to_numpy(each(same_inputs, training=training)) for each in (plain, model))
        assert np.abs(first - second).max() > 1e-6


def test_unknown_keyword_is_a_type_error_with_the_nearest_one():
    config = kc.CrossViTConfig()
    for call_with_typo, typo, nearest in (
        (lambda: kc.crossvit_9_dagger(embed_dims=(1, 2)), "embed_dims", "embed_dim"),
        (lambda: kc.build_crossvit(config, poling="avg"), "poling", "pool"),
        (lambda: kc.CrossViT(config, clas_names=["a"]), "clas_names", "class_names"),
    ):
        with pytest.raises(TypeError, match=f"'{typo}'.*'{nearest}'"):
            call_with_typo()


def test_every_keyword_is_in_the_signature():
    arguments = typing.get_type_hints(ModelArguments)
    signature = typing.get_type_hints(kc.crossvit_9_dagger)
    assert typing.get_args(signature["kwargs"]) == (ModelArguments,)
    fields = {field.name for field in dataclasses.fields(kc.CrossViTConfig)}
    model_keywords = set(inspect.signature(kc.CrossViT).parameters) - {"config", "trainable", "unknown"}
    loading = set(inspect.signature(kc.load_checkpoint).parameters) - {"model", "source"}
    assert arguments.keys() == (fields - {"num_classes"}) | model_keywords | loading | {"weights"}
    assert typing.get_type_hints(ConfigFields).keys() == fields


@pytest.mark.parametrize(
    ("keyword", "remedy"),
    [("pretrained", 'weights="imagenet"'), ("include_top", "num_classes=0"), ("input_shape", "img_size")],
)
def test_keyword_of_other_libraries_is_answered_with_ours(keyword, remedy):
    with pytest.raises(TypeError, match=f"'{keyword}'.*{remedy}"):
        kc.crossvit_9_dagger(**{keyword: True})


def test_impossible_requests_are_refused():
    for call_with_mistake, values in (
        (lambda: tiny(pool="max"), "pool 'max'.*'token'"),
        (lambda: tiny(class_names=["cat", "dog"]), "2 names for num_classes 5"),
        (lambda: tiny(class_names=5), "class_names 5"),
        (lambda: tiny(class_names="abcde"), "class_names 'abcde'"),
        (lambda: kc.crossvit_9(weights="imagenett"), "'imagenett'.*'imagenet'"),
        (lambda: tiny(0, classifier_activation="softmax"), "'softmax'.*num_classes"),
    ):
        with pytest.raises(ValueError, match=values):
            call_with_mistake()


def custom_softmax(logits):
    exponentials = ops.exp(logits)
    return exponentials / ops.sum(exponentials, axis=-1, keepdims=True)


@pytest.mark.backends
@pytest.mark.parametrize(
    "activation",
    [
        *("softmax", "log_softmax", "sparsemax"),
        *(keras.activations.softmax, keras.activations.log_softmax, custom_softmax, keras.layers.Softmax()),
        keras.activations.serialize(keras.activations.softmax),
    ],
)
def test_constant_activation_of_one_class_is_refused(activation):
    with pytest.raises(ValueError, match=r"num_classes is 1.*(softmax|sparse)"):
        tiny(1, classifier_activation=activation)
    described = {**tiny(1).get_config(), "classifier_activation": activation}
    with pytest.raises(ValueError, match="num_classes is 1"):
        kc.CrossViT.from_config(described)


@pytest.mark.parametrize(
    "activation",
    [None, "linear", keras.activations.linear, "sigmoid", "tanh", "relu", "hard_sigmoid", keras.activations.sigmoid],
)
def test_other_activations_are_accepted_for_one_class(activation):
    model = tiny(1, classifier_activation=activation)
    assert len(np.unique(call(model, images(model)))) == 2 or activation == "relu"
    is_linear = activation in (None, "linear", keras.activations.linear)
    assert model.output_names == ["logits" if is_linear else "probabilities"]


def test_classifier_activation_is_applied_to_the_logits():
    logits, probabilities = tiny(), tiny(classifier_activation="softmax")
    probabilities.set_weights(logits.get_weights())
    inputs = images(logits)
    expected = np.exp(call(logits, inputs))
    np.testing.assert_allclose(call(probabilities, inputs), expected / expected.sum(1, keepdims=True), atol=1e-6)
    assert probabilities.output_names == ["probabilities"]


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("num_classes", [5, 0])
def test_outputs_are_float32_under_every_policy(policy, num_classes):
    keras.config.set_dtype_policy(policy)
    model = tiny(num_classes)
    keras.config.set_dtype_policy("float32")
    inputs = images(model)
    outputs = model(inputs)
    assert keras.backend.standardize_dtype(outputs.dtype) == "float32"
    assert model.get_layer("stage_0_small_patch_block_0").compute_dtype == policy.removeprefix("mixed_")
    full = tiny(num_classes)
    full.set_weights(model.get_weights())
    expected = call(full, inputs)
    error = np.abs(ops.convert_to_numpy(outputs) - expected).max()
    assert error < 0.05 * np.abs(expected).max()  # bfloat16 rounds to 1 in 256, many times in a row
    assert (error == 0) == (policy == "float32")


def test_dtype_is_a_keyword_and_survives_configuration():
    model = tiny(dtype="mixed_bfloat16")
    again = kc.CrossViT.from_config(model.get_config())
    assert again.get_layer("stage_0_large_patch_fusion").compute_dtype == "bfloat16"
    assert model.get_layer("stage_0_large_patch_fusion").attentions[0].key.compute_dtype == "bfloat16"


@pytest.mark.parametrize(("policy", "scaled"), [("mixed_float16", True), ("mixed_bfloat16", False), ("float32", False)])
def test_loss_is_scaled_if_only_the_model_is_float16(policy, scaled):
    # Gradients below 6e-8 are zero in float16.
    model = tiny(dtype=policy)
    model.compile("adam", "mse")
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer) == scaled
    assert kc.CrossViT.from_config(model.get_config()).dtype_policy == model.dtype_policy


@pytest.mark.backends
def test_random_initialization_equals_the_reference():
    model = kc.crossvit_9(num_classes=100)
    for weight in model.weights:
        values = ops.convert_to_numpy(weight.value)
        if weight.name in ("bias", "beta"):
            assert not values.any(), weight.path
        elif weight.name == "gamma":
            assert (values == 1).all(), weight.path
        elif values.ndim == 4:
            assert np.abs(values).max() == pytest.approx(np.prod(values.shape[:3]) ** -0.5, rel=0.01), weight.path
        else:  # class tokens, position embeddings, dense kernels: 6 standard errors of an estimate from n draws
            assert values.std() == pytest.approx(0.02, rel=6 / (2 * values.size) ** 0.5), weight.path


@pytest.mark.backends
def test_the_same_seed_gives_the_same_weights():
    first, second, other = (_weights_from_seed(seed) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert not np.array_equal(first[0], other[0])
    random = [tuple(each.ravel()[:4]) for each in first if each.any() and not (each == 1).all()]
    assert len(set(random)) == len(random), "two weights have the same values"


def _weights_from_seed(seed):
    keras.utils.set_random_seed(seed)
    return tiny().get_weights()


def test_wide_summary_has_a_row_per_block_with_full_names(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    lines = []
    kc.crossvit_9_dagger().summary(print_fn=lines.append)
    text = "\n".join(lines)
    for name in ("small_patch_image", "stage_2_large_patch_block_2", "stage_0_small_patch_fusion", "logits"):
        assert f" {name} " in text
    assert len(text.splitlines()) < 110
    assert "attention_norm" not in text


@pytest.mark.parametrize(("columns", "show_trainable"), [("80", False), ("80", True), ("120", True)])
def test_other_summaries_are_those_of_keras(columns, show_trainable, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    model, texts = tiny(), []
    for summary in (model.summary, functools.partial(keras.Model.summary, model)):
        summary(print_fn=texts.append, show_trainable=show_trainable)
    assert texts[0] == texts[1]
    assert texts[0].splitlines()[2].count("┃") == (6 if show_trainable else 5)


def test_print_shows_the_architecture(capsys):
    print(kc.crossvit_9_dagger(num_classes=10, drop_path_rate=0.1, pool="avg"))
    text = capsys.readouterr().out
    for part in ("8,394,452", "240x240x3", "20x20 patches of 12x12", "multi-conv", "1 + 196 tokens of 256"):
        assert part in text
    for part in ("3 large_patch blocks (4 heads, MLP 768)", "drop path to 0.1", "mean patch tokens", "10 classes"):
        assert part in text
    assert text.count("stage_") == 3


def test_configuration_rebuilds_the_model():
    model = tiny(class_names=list("abcde"), pool="avg", classifier_activation="sigmoid", name="letters", **DEEPER)
    model.get_layer("small_patch_embedding").trainable = False
    again = kc.CrossViT.from_config(model.get_config())
    assert again.config == model.config
    assert (again.class_names, again.pool, again.classifier_activation) == (("a", "b", "c", "d", "e"), "avg", "sigmoid")
    assert again.name == "letters"
    assert len(again.trainable_weights) == len(model.trainable_weights) == len(model.weights) - 6
    inputs = images(model)
    for copy in (again, keras.models.clone_model(model)):
        copy.set_weights(model.get_weights())
        np.testing.assert_array_equal(call(copy, inputs), call(model, inputs))


@pytest.mark.backends
def test_fit_trains_every_weight_without_a_warning():
    model = tiny(drop_path_rate=0.1, drop_rate=0.1, attn_drop_rate=0.1)
    before = [ops.convert_to_numpy(weight.value) for weight in model.weights]
    inputs, labels = images(model, batch=8), np.arange(8) % 5
    compiled = keras.backend.backend() == "jax"  # on the others, compiling takes longer than the five steps
    model.compile(
        keras.optimizers.Adam(1e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=compiled
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        history = model.fit(inputs, labels, batch_size=8, epochs=5, verbose=0).history["loss"]
    assert history[-1] < history[0]
    for weight, values in zip(model.weights, before, strict=True):
        assert np.abs(ops.convert_to_numpy(weight.value) - values).max() > 0, weight.path


@pytest.mark.backends
def test_a_compiled_model_is_only_traced_for_its_first_batch(monkeypatch):
    backend = keras.backend.backend()
    if backend == "torch":
        pytest.skip("PyTorch does not trace")
    model = tiny(drop_path_rate=0.1, drop_rate=0.1)
    traces, call = [], model.call
    monkeypatch.setattr(model, "call", lambda *arguments, **keywords: traces.append(0) or call(*arguments, **keywords))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=backend == "jax")
    for method, targets in ((model.train_on_batch, [np.arange(4)]), (model.predict_on_batch, [])):
        method(images(model, batch=4), *targets)
        assert traces
        traces.clear()
        for seed in (1, 2):
            method(images(model, batch=4, seed=seed), *targets)
        assert not traces
    if backend == "tensorflow":  # its second trace has an unknown batch size; JAX compiles for each size
        model.predict_on_batch(images(model, batch=2))
        traces.clear()
        for batch in (1, 3, 5):
            model.predict_on_batch(images(model, batch=batch))
        assert not traces
