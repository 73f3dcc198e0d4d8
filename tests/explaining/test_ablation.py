"""The closed form against the fusion without a patch, and what it finds on models whose decision is known."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_crossvit as kc
from keras_crossvit.explaining.ablation import ablation_model
from keras_crossvit.models.config import BRANCHES
from keras_crossvit.models.graph import fusion_name
from tests.helpers.explanations import require_explanations
from tests.helpers.models import images, tiny


def randomized(**arguments):
    model = tiny(5, **{"depth": ((1, 1, 0), (1, 1, 0)), **arguments})
    for weight in model.weights:  # initial ones give almost equal attention
        weight.assign(np.random.default_rng(len(weight.path)).normal(0, 0.3, weight.shape))
    return model


def last_fusions(model):
    return [model.get_layer(fusion_name(len(model.config.depth) - 1, branch)) for branch in (0, 1)]


def last_tokens(model, inputs):
    """Both branches' tokens before the last fusion."""
    return keras.Model(model.inputs, last_fusions(model)[0].input)(list(inputs))


def direction_of(batch, classes, number, against=None):
    direction = np.zeros((batch, classes), "float32")
    direction[:, number] = 1
    if against is not None:
        direction[:, against] = -1
    return direction


def grids_of(model, tokens, direction):
    found = ablation_model(model)([*tokens, ops.convert_to_tensor(direction)])
    return [ops.convert_to_numpy(found[name]) for name in BRANCHES]


def without(tokens, patch):
    return ops.concatenate([tokens[:, : 1 + patch], tokens[:, 2 + patch :]], axis=1)


def recomputed(model, tokens, direction, branch):
    """Scores of the branch that reads the patches of another, with all of them less those without each."""
    reader, name = last_fusions(model)[1 - branch], BRANCHES[1 - branch]
    pooling, head = model.get_layer(f"{name}_pooling"), model.get_layer(f"{name}_head")
    class_token = reader.to_partner_channels(tokens[1 - branch][:, :1])
    *earlier, last = zip(reader.attention_norms, reader.attentions, strict=True)
    for norm, attention in earlier:
        class_token = class_token + attention(norm(ops.concatenate([class_token, tokens[branch][:, 1:]], axis=1)))

    def score(read):
        norm, attention = last
        read = ops.concatenate([class_token, read[:, 1:]], axis=1)
        logits = head(pooling(reader.to_own_channels(class_token + attention(norm(read)))))
        return (ops.convert_to_numpy(logits).astype("float64") * direction).sum(axis=1) / 2

    patches = tokens[branch].shape[1] - 1
    losses = [score(tokens[branch]) - score(without(tokens[branch], j)) for j in range(patches)]
    return np.stack(losses, axis=1).reshape(-1, *model.config.patch_grids[branch])


def sharpened(model):
    """Lets one token dominate each head of the last fusions, so that 1 - w is close to 0."""
    for fusion in last_fusions(model):
        fusion.attentions[-1].query.kernel.assign(60 * fusion.attentions[-1].query.kernel)
    return model


def with_lora(model):
    for fusion in last_fusions(model):
        for layer in (fusion.to_own, fusion.attentions[-1].value):
            layer.enable_lora(2)
            layer.lora_kernel_b.assign(np.random.default_rng(0).normal(size=layer.lora_kernel_b.shape))
    return model


MODELS = {
    "plain": randomized,
    "several rounds": lambda: randomized(depth=((1, 1, 0), (1, 1, 2))),
    "one token dominates": lambda: sharpened(randomized()),
    "without bias": lambda: randomized(qkv_bias=False),
    "sigmoid": lambda: randomized(classifier_activation="sigmoid"),
    "LoRA": lambda: with_lora(randomized()),
}


@pytest.mark.backends
@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_the_closed_form_equals_the_fusion_without_the_patch(make):
    model = make()
    tokens = last_tokens(model, images(model, batch=2))
    direction = direction_of(2, 5, 1, against=3)
    for branch, grid in enumerate(grids_of(model, tokens, direction)):
        wanted = recomputed(model, tokens, direction, branch)
        assert np.abs(wanted).max() > 1e-3
        np.testing.assert_allclose(grid, wanted, rtol=0, atol=1e-5 * max(1, np.abs(wanted).max()))


def test_a_quantized_model_is_explained_and_ablated_as_it_computes():
    model = randomized()
    model.quantize("int8")
    require_explanations(model)
    tokens = last_tokens(model, images(model, batch=2))
    direction = direction_of(2, 5, 0)
    for branch, grid in enumerate(grids_of(model, tokens, direction)):
        wanted = recomputed(model, tokens, direction, branch)
        # int8 layers round each row of their inputs, and the closed form has others.
        assert np.corrcoef(grid.ravel(), wanted.ravel())[0, 1] > 0.95


@pytest.mark.backends
def test_where_patches_are_averaged_the_mean_is_taken_without_each():
    model = randomized(pool="avg")
    tokens = last_tokens(model, images(model, batch=2))
    direction = direction_of(2, 5, 2)
    for branch, grid in enumerate(grids_of(model, tokens, direction)):
        name = BRANCHES[branch]
        pooling, head = model.get_layer(f"{name}_pooling"), model.get_layer(f"{name}_head")

        def score(read, pooling=pooling, head=head):
            return (ops.convert_to_numpy(head(pooling(read))) * direction).sum(axis=1) / 2

        patches = tokens[branch].shape[1] - 1
        wanted = np.stack([score(tokens[branch]) - score(without(tokens[branch], j)) for j in range(patches)], axis=1)
        np.testing.assert_allclose(grid.reshape(wanted.shape), wanted, rtol=0, atol=1e-5)


def colored_cells(count, seed):
    """Images of four cells in three colors, and the color of the first."""
    random = np.random.default_rng(seed)
    colors = random.integers(0, 3, (count, 2, 2))
    pixels = 28 + 200 * np.repeat(np.repeat(np.eye(3)[colors], 24, axis=1), 24, axis=2)
    return np.clip(pixels + random.normal(0, 10, pixels.shape), 0, 255).astype("uint8"), colors[:, 0, 0]


def corner_model(inputs_of, **arguments):
    """A model for which only the color of the corner counts, and images with their explained directions."""
    keras.utils.set_random_seed(0)
    model = tiny(3, img_size=(48, 48), patch_size=(12, 16), **arguments)
    pixels, labels = colored_cells(256, seed=0)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.AdamW(1e-2), loss, jit_compile=False)
    model.fit(inputs_of(pixels, model), labels, batch_size=32, epochs=10, verbose=0)
    pixels, labels = colored_cells(32, seed=1)
    classes = model.predict(inputs_of(pixels, model), verbose=0).argmax(axis=1)
    assert (classes == labels).mean() > 0.95
    return model, pixels, classes


def fraction_in_corner(grids):
    """The part of the positive heat that lies in the cell that decides, a quarter of the image."""
    heat = np.maximum(grids, 0)
    rows, columns = (-(-size // 2) for size in heat.shape[1:])
    return heat[:, :rows, :columns].sum() / heat.sum()


def both_inputs(pixels, model):
    return kc.preprocess(pixels, model, crop_fraction=1.0)


def test_the_heat_of_the_default_method_lies_in_the_corner_that_decides():
    model, pixels, _ = corner_model(both_inputs)
    explanations = kc.explain(model, list(pixels), crop_fraction=1.0)
    for scale in BRANCHES:
        assert fraction_in_corner(np.stack([getattr(each, scale) for each in explanations])) > 0.9


def test_the_heat_of_ablation_lies_in_the_patch_that_decides():
    """One large patch covers most of the corner, and without a stem no other patch sees into it.

    Of several patches with the same color, ablation sees none: without one of them, the class token reads the others.
    """

    def only_large_patches(pixels, model):
        small, large = both_inputs(pixels, model)
        return np.zeros_like(small), large

    model, pixels, classes = corner_model(only_large_patches, multi_conv=False)
    tokens = last_tokens(model, only_large_patches(pixels, model))
    assert fraction_in_corner(grids_of(model, tokens, np.eye(3, dtype="float32")[classes])[1]) > 0.9
