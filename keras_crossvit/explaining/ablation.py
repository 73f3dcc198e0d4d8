"""What a class's logit loses without a patch in the last exchange between the branches, in closed form."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_crossvit.layers import CrossAttentionFusion, TokenPooling
from keras_crossvit.layers._backend_operations import replace_class_token
from keras_crossvit.models.config import BRANCHES, config_of
from keras_crossvit.models.graph import fusion_name
from keras_crossvit.runtimes.runtime import EXPLANATION_NAMES, OUTPUT_NAME


def ablation_model(model: Any) -> keras.Model:
    """Returns a model that computes for every patch what the logit of a class loses without it.

    The class token of each branch reads the partner's patches for the last time in the last fusion. Without patch j its
    heads would read (o - w_j v_j) / (1 - w_j) instead of o = sum w v, with weights w and values v. This is carried on
    through the projections, norms and the head. A small patch is read by the large-patch branch and changes that
    branch's logits only, and the reverse. With `pool="avg"` nothing reads the fused class tokens; there a patch is left
    out of the mean of its own branch.

    Args:
        model: A `CrossViT` with classes.

    Returns:
        A model that shares the weights. Its inputs are a list of both branches' tokens before the last fusion, shapes
        (B, 1 + N, C), and the direction, shape (B, num_classes): 1 at the class, and -1 at a class that it is compared
        with. Its output is a dictionary: `small_patch` and `large_patch`, shapes (B, rows, columns), in logits.
    """
    config = config_of(model)
    fusions = [model.get_layer(fusion_name(len(config.depth) - 1, branch)) for branch in range(len(BRANCHES))]
    poolings = [model.get_layer(f"{name}_pooling") for name in BRANCHES]
    heads = [model.get_layer(f"{name}_head") for name in BRANCHES]
    tokens = [
        keras.Input(each.shape[1:], dtype=each.dtype, name=f"{name}_tokens")
        for name, each in zip(BRANCHES, fusions[0].input, strict=True)
    ]
    direction = keras.Input((config.num_classes,), name="direction")
    grids = {}
    for branch, name in enumerate(BRANCHES):
        reader = branch if poolings[0].average_patches else 1 - branch
        own, read = tokens[reader], tokens[branch]
        losses = _PatchAblation(
            fusions[reader], poolings[reader], heads[reader], config.patch_grids[branch], name=f"{name}_ablation"
        )([own, read, direction])
        grids[name] = losses
    return keras.Model([*tokens, direction], grids, name=f"{model.name}_ablation")


def explained_model(model: Any) -> keras.Model:
    """Returns a model that computes the logits and the ablation's grids for the class with the largest logit.

    Args:
        model: A `CrossViT` with classes.

    Returns:
        A model that shares the weights and inputs of `model`. Its output is a dictionary: `logits`, shape
        (B, num_classes), and `small_patch_explanation` and `large_patch_explanation`, shapes (B, rows, columns), in
        logits. Where several classes have the largest logit, the grids are the sums of theirs.
    """
    logits = model.get_layer(OUTPUT_NAME).output
    tokens = model.get_layer(fusion_name(len(config_of(model).depth) - 1, 0)).input
    below_largest = ops.max(logits, axis=1, keepdims=True) - logits
    direction = 1 - ops.minimum(ops.ceil(below_largest), 1)  # XNNPACK has no comparisons
    grids = ablation_model(model)([*tokens, direction])
    outputs = {OUTPUT_NAME: logits} | {EXPLANATION_NAMES[b]: grids[BRANCHES[b]] for b in range(len(BRANCHES))}
    return keras.Model(model.inputs, outputs, name=model.name)


class _PatchAblation(keras.layers.Layer):
    """What the logit loses without each patch that a branch reads: its partner's, or its own for the mean of patches.

    Inputs:
        List of the reading branch's tokens (B, 1 + N, C), the tokens that are read, and the direction.

    Returns:
        Tensor of shape (B, rows, columns).
    """

    def __init__(
        self,
        fusion: CrossAttentionFusion,
        pooling: TokenPooling,
        head: keras.layers.Layer,
        grid: tuple[int, int],
        **kwargs: Any,
    ) -> None:
        super().__init__(dtype="float32", autocast=False, **kwargs)
        self.fusion, self.pooling, self.head, self.grid = fusion, pooling, head, grid
        self.built = True

    def call(self, inputs: Any) -> Any:
        own, read, direction = inputs
        pooled = self._pooled_means(own) if self.pooling.average_patches else self._pooled_class_tokens(own, read)
        scores = self._scores(pooled, direction) / len(BRANCHES)  # the model averages the logits of its branches
        return ops.reshape(scores[:, :1] - scores[:, 1:], (-1, *self.grid))

    def _pooled_means(self, own: Any) -> Any:
        """Returns the mean of all patches, then the means without each, (B, 1 + N, C)."""
        patches = ops.cast(self.pooling.norm(own[:, 1:]), "float32")
        mean, others = ops.mean(patches, axis=1, keepdims=True), max(1, patches.shape[1] - 1)
        return ops.concatenate([mean, mean + (mean - patches) / others], axis=1)

    def _pooled_class_tokens(self, own: Any, partner: Any) -> Any:
        """Returns the pooled class token, then those without each of the partner's patches, (B, 1 + M, C)."""
        fusion = self.fusion
        class_token = fusion.to_partner_channels(own[:, :1])
        for norm, attention in zip(fusion.attention_norms[:-1], fusion.attentions[:-1], strict=True):
            class_token = class_token + attention(norm(replace_class_token(partner, class_token)), training=False)
        attention = fusion.attentions[-1]
        tokens = fusion.attention_norms[-1](replace_class_token(partner, class_token))
        _, weights = attention(tokens, training=False, return_attention_scores=True)
        read = ops.cast(_without_each(weights, attention.values(tokens)), tokens.dtype)
        fused = fusion.to_own_channels(ops.reshape(class_token + attention.project(read), (-1, 1, fusion.partner_dim)))
        return ops.reshape(self.pooling(fused), (-1, tokens.shape[1], fusion.embed_dim))

    def _scores(self, pooled: Any, direction: Any) -> Any:
        """Returns logits along the direction, (B, T), without what is the same for all tokens of an image."""
        if self.head.quantization_mode is None:
            weights = ops.matmul(direction, ops.transpose(ops.cast(self.head.kernel, "float32")))
            return ops.einsum("btc,bc->bt", ops.cast(pooled, "float32"), weights)
        logits = self.head(ops.reshape(pooled, (-1, pooled.shape[2])))  # a quantized kernel is not a plain matrix
        logits = ops.reshape(ops.cast(logits, "float32"), (-1, pooled.shape[1], direction.shape[1]))
        return ops.einsum("btk,bk->bt", logits, direction)

    def compute_output_shape(self, input_shape: Any) -> tuple:
        return (input_shape[0][0], *self.grid)


def _without_each(weights: Any, values: Any) -> Any:
    """Returns what each head reads with all tokens, then without each patch: (B, H, 1 + M, D) in float32.

    Weights have the shape (B, H, 1, 1 + M), values (B, H, 1 + M, D). At most one token of a head has a weight above
    1/2. Without that one, the others are summed instead of subtracting it, since 1 - w may be close to 0. The
    condition is a factor of 0 or 1, since XNNPACK, which runs this in LiteRT files, has no comparisons.
    """
    weights = ops.cast(ops.transpose(weights, (0, 1, 3, 2)), "float32")
    values = ops.cast(values, "float32")
    weighted = weights * values
    total = ops.sum(weighted, axis=2, keepdims=True)
    dominates = ops.ceil(weights - 0.5)  # 1 above 1/2, else 0
    others = weights * (1 - dominates)
    rest = ops.sum(others * values, axis=2, keepdims=True)
    rest = rest / ops.maximum(ops.sum(others, axis=2, keepdims=True), 1e-37)
    without = dominates * rest + (1 - dominates) * (total - weighted) / (1 - others)
    return ops.concatenate([total, without[:, :, 1:]], axis=2)
