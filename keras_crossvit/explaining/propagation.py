"""Attention carried backwards through both branches: rollout, and relevance for a class."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_crossvit.layers import CrossAttentionFusion, TransformerBlock
from keras_crossvit.layers._backend_operations import replace_class_token
from keras_crossvit.models.config import BRANCHES, CrossViTConfig, config_of
from keras_crossvit.models.graph import fusion_name

Vectors = list[np.ndarray]  # for each branch, a value for every token, (B, 1 + N)


def propagate(config: CrossViTConfig, maps: Mapping[str, np.ndarray], *, keep: float) -> Vectors:
    """Starts at both class tokens of the last stage and carries their values back to the first tokens.

    A block takes r to keep * (r + r A). A fusion does the same with the row of one class token, whose patches are the
    partner's; both fusions of a stage read the tokens from before it.

    Args:
        config: The architecture.
        maps: For each block (B, 1 + N, 1 + N), and for each fusion (B, 1 + M), by the names of the layers.
        keep: 0.5 keeps the sum (rollout); 1.0 adds (relevance).
    """
    batch = len(next(iter(maps.values())))
    values = [np.zeros((batch, 1 + rows * columns), "float32") for rows, columns in config.patch_grids]
    for each in values:
        each[:, 0] = 1.0
    for stage in reversed(range(len(config.depth))):
        before = [each.copy() for each in values]
        for branch in range(len(BRANCHES)):
            row, own = maps[fusion_name(stage, branch)], values[branch][:, :1]
            before[branch][:, :1] = keep * own * (1 + row[:, :1])
            before[1 - branch][:, 1:] += keep * own * row[:, 1:]
        values = before
        for branch, name in enumerate(BRANCHES):
            for block in reversed(range(config.depth[stage][branch])):
                attention = maps[f"stage_{stage}_{name}_block_{block}"]
                values[branch] = keep * (values[branch] + np.einsum("bq,bqk->bk", values[branch], attention))
    return values


def mean_of_heads(maps: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Returns the means of maps (B, H, Q, T) over the heads; those of one class token without the axis Q."""
    means = {name: np.asarray(each, "float32").mean(axis=1) for name, each in maps.items()}
    return {name: each[:, 0] if each.shape[1] == 1 else each for name, each in means.items()}


def relevance_function(
    model: Any, directions: Callable[[Any], Any], *, run_eagerly: bool = False
) -> Callable[[Sequence[Any]], tuple[np.ndarray, dict[str, np.ndarray]]]:
    """Returns a function of both images that computes the logits and the maps of relevance.

    The maps are the attention weights times their gradients, negative products set to 0, averaged over the heads; by
    the names of the layers, as `propagate` takes them. What is explained are the logits along `directions(logits)`.
    With `run_eagerly`, TensorFlow traces nothing.

    Source: Chefer, Gur and Wolf, "Generic Attention-model Explainability", ICCV 2021, equations 5, 6 and 10.
    """
    opened, shapes = _opened_model(model)

    def score(offsets: list[Any], images: Sequence[Any]) -> tuple[Any, dict[str, Any]]:
        outputs = opened([*images, *offsets])
        logits = outputs["logits"]
        return ops.sum(logits * ops.stop_gradient(directions(logits))), outputs

    gradients = _with_gradients(score, run_eagerly=run_eagerly)

    def relevance(images: Sequence[Any]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        offsets = [ops.zeros((len(images[0]), *shape)) for shape in shapes.values()]
        outputs, found = gradients(offsets, list(map(ops.convert_to_tensor, images)))
        products = (_to_numpy(outputs[name]) * _to_numpy(each) for name, each in zip(shapes, found, strict=True))
        maps = mean_of_heads(dict(zip(shapes, (np.maximum(each, 0) for each in products), strict=True)))
        return _to_numpy(outputs["logits"]), maps

    return relevance


def _to_numpy(tensor: Any) -> np.ndarray:
    return np.asarray(ops.convert_to_numpy(tensor), "float32")


def _opened_model(model: Any) -> tuple[keras.Model, dict[str, tuple[int, ...]]]:
    """Returns a model with an offset on every attention map as further inputs, and the maps' shapes by name.

    The gradient for such an offset is that for the weights themselves, on every backend.
    """
    config = config_of(model)
    tokens = [model.get_layer(f"{name}_tokens").output for name in BRANCHES]
    offsets: dict[str, Any] = {}
    maps: dict[str, Any] = {}

    def through(name: str, *inputs: Any) -> Any:
        layer = model.get_layer(name)
        shape = layer.scores_shape(inputs[0].shape if len(inputs) == 1 else [each.shape for each in inputs])[1:]
        offsets[name] = keras.Input(shape, name=f"{name}_offset")
        after, maps[name] = _Opened(layer, name=f"{name}_opened")([*inputs, offsets[name]])
        return after

    for stage, depth in enumerate(config.depth):
        for branch, name in enumerate(BRANCHES):
            for block in range(depth[branch]):
                tokens[branch] = through(f"stage_{stage}_{name}_block_{block}", tokens[branch])
        tokens = [through(fusion_name(stage, b), tokens[b], tokens[1 - b]) for b in range(len(BRANCHES))]
    pooled = [model.get_layer(f"{name}_pooling")(each) for name, each in zip(BRANCHES, tokens, strict=True)]
    logits = [model.get_layer(f"{name}_head")(each) for name, each in zip(BRANCHES, pooled, strict=True)]
    outputs = {"logits": keras.layers.Average(dtype="float32")(logits), **maps}
    opened = keras.Model([*model.inputs, *offsets.values()], outputs, name=f"{model.name}_opened")
    return opened, {name: tuple(each.shape[1:]) for name, each in offsets.items()}


class _Opened(keras.layers.Layer):
    """A block or fusion that adds an offset to its attention weights, and returns its tokens and the weights."""

    def __init__(self, layer: TransformerBlock | CrossAttentionFusion, **kwargs: Any) -> None:
        super().__init__(dtype=layer.dtype_policy, **kwargs)
        self.layer = layer
        self.built = True

    def call(self, inputs: Sequence[Any]) -> tuple[Any, Any]:
        layer, offset = self.layer, inputs[-1]
        if isinstance(layer, TransformerBlock):
            attended, weights = _attend(layer.attention, layer.attention_norm(inputs[0]), offset)
            tokens = inputs[0] + attended
            return tokens + layer.mlp(layer.mlp_norm(tokens), training=False), weights
        own, partner, _ = inputs
        class_token, last = layer.to_partner_channels(own[:, :1]), layer.rounds - 1
        for i, (norm, attention) in enumerate(zip(layer.attention_norms, layer.attentions, strict=True)):
            tokens = norm(replace_class_token(partner, class_token))
            attended, weights = _attend(attention, tokens, offset if i == last else 0)
            class_token = class_token + attended
        return replace_class_token(own, layer.to_own_channels(class_token)), weights

    def compute_output_shape(self, input_shape: Sequence[tuple]) -> tuple:
        if isinstance(self.layer, TransformerBlock):
            return tuple(input_shape[0]), self.layer.scores_shape(input_shape[0])
        return tuple(input_shape[0]), self.layer.scores_shape(input_shape[:2])


def _attend(attention: Any, tokens: Any, offset: Any) -> tuple[Any, Any]:
    _, weights = attention(tokens, training=False, return_attention_scores=True)
    return attention.project(ops.matmul(weights + offset, attention.values(tokens))), weights


def _with_gradients(
    score: Callable[..., tuple[Any, Any]], *, run_eagerly: bool = False
) -> Callable[..., tuple[Any, list[Any]]]:
    """Returns a function that returns the second result of `score`, and the gradients of the first for the offsets."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        def with_tape(offsets: list[Any], *others: Any) -> tuple[Any, list[Any]]:
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(offsets)
                value, result = score(offsets, *others)
            return result, tape.gradient(value, offsets)

        return with_tape if run_eagerly else tf.function(with_tape, autograph=False)
    if backend == "jax":
        import jax

        compiled = jax.jit(jax.grad(score, has_aux=True))
        return lambda *arguments: tuple(reversed(compiled(*arguments)))

    import torch

    def with_autograd(offsets: list[Any], *others: Any) -> tuple[Any, list[Any]]:
        with torch.enable_grad():
            offsets = [each.requires_grad_() for each in offsets]
            value, result = score(offsets, *others)
            return result, list(torch.autograd.grad(value, offsets))

    return with_autograd
