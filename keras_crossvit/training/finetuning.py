"""Tools for fine-tuning: what to train, layer-wise learning rates, LoRA and exclusions from weight decay."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

import keras

from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit._internal.keras_compat import all_layers
from keras_crossvit._internal.optimizers import LayerWiseOptimizer, excluded_variables, excluding
from keras_crossvit.layers import CrossAttentionFusion, TransformerBlock
from keras_crossvit.models.config import BRANCHES, config_of
from keras_crossvit.models.crossvit import CrossViT

__all__ = [
    "ScaledSchedule",
    "enable_lora",
    "freeze_all_but_head",
    "layer_wise_optimizer",
    "learning_rate_scales",
    "no_weight_decay_variables",
    "unfreeze",
]

_BRANCH = f"({'|'.join(BRANCHES)})"


def freeze_all_but_head(model: CrossViT) -> None:
    """Freezes every layer of a CrossViT but its heads. Compile the model afterwards.

    Raises:
        InvalidTypeError: the model is not a `CrossViT`.
        InvalidValueError: the model has no head.
    """
    heads = _heads(model)
    if not heads:
        raise InvalidValueError("num_classes 0 leaves the model without a head to train; build it with 1 or more.")
    for layer in model.layers:
        layer.trainable = layer in heads


def unfreeze(model: CrossViT) -> None:
    """Makes every layer of a CrossViT trainable. Compile the model afterwards.

    `model.trainable = True` is not enough: Keras ignores it for a functional model that is trainable already.

    Raises:
        InvalidTypeError: the model is not a `CrossViT`.
    """
    config_of(model)  # a wrapper has the CrossViT as one layer, for which Keras ignores it, too
    for layer in model.layers:
        layer.trainable = True


def no_weight_decay_variables(model: CrossViT) -> list[keras.Variable]:
    """Returns biases, norms, class tokens and position embeddings, which the authors exclude from weight decay.

    Pass them to `optimizer.exclude_from_weight_decay` before the optimizer is built.

    Source: timm.optim.param_groups_weight_decay; timm.models.crossvit.CrossVit.no_weight_decay.
    """
    tokens = ("class_token", "position_embedding")
    return [each for each in model.trainable_variables if len(each.shape) <= 1 or each.name in tokens]


def learning_rate_scales(model: CrossViT, *, decay: float = 0.75) -> dict[str, float]:
    """Returns the factor on the learning rate of every trainable variable, by layer-wise decay.

    Stems and token embeddings have depth 0, the first stage depth 1 and so on. The final norms belong to the last
    stage. The heads come last.

    Args:
        model: A `CrossViT`.
        decay: Factor from one depth to the one before it. Defaults to 0.75.

    Returns:
        `decay` ** (depth of the heads - depth) by path of the variable.

    Source: Bao et al., "BEiT", 2021, appendix; timm.optim.param_groups_layer_decay.
    """
    scales = _scales_by_pattern(model, decay).items()
    return {
        variable.path: next(scale for pattern, scale in scales if re.fullmatch(pattern, variable.path))
        for variable in model.trainable_variables
    }


def layer_wise_optimizer(
    model: CrossViT,
    optimizer: keras.optimizers.Optimizer,
    *,
    decay: float = 0.75,
    exclude_from_weight_decay: Sequence[keras.Variable] = (),
) -> LayerWiseOptimizer:
    """Returns an optimizer with the learning rates of `learning_rate_scales`: one copy of the given one per depth.

    Args:
        model: A `CrossViT`.
        optimizer: A Keras optimizer that is not built yet. Its learning rate, a number or a schedule, is the heads'.
            Variables that it excludes from weight decay stay excluded.
        decay: Factor from one depth to the one before it. Defaults to 0.75.
        exclude_from_weight_decay: More variables to exclude from weight decay, such as
            `no_weight_decay_variables(model)`. Defaults to none.

    Returns:
        An optimizer for `model.compile`. `ReduceLROnPlateau`, and `LearningRateScheduler` with a function of the epoch
        and the learning rate, scale the rate of every depth. `LearningRateScheduler` with a function of the epoch only
        sets all depths to one rate; give it a function of both, or give `optimizer` a schedule.
    """
    excluded = [*exclude_from_weight_decay, *excluded_variables(optimizer, model.variables)]
    optimizers = {
        pattern: _scaled_copy(optimizer, scale, excluded) for pattern, scale in _scales_by_pattern(model, decay).items()
    }
    if not optimizers:
        raise InvalidValueError("every layer of the model is frozen; unfreeze some to train it.")
    _, default = optimizers.popitem()
    return LayerWiseOptimizer(keras.optimizers.OptimizerMap(default, optimizers))


def enable_lora(model: CrossViT, rank: int, *, lora_alpha: float | None = None) -> None:
    """Freezes everything but the heads and adds Keras' LoRA to all dense layers of the attentions.

    Compile the model afterwards. Every saved file has the low-rank updates merged into the kernels, so a model loaded
    from it is a plain one.

    Args:
        model: A `CrossViT` with its weights loaded.
        rank: Rank of the updates.
        lora_alpha: The updates are scaled by `lora_alpha` / `rank`. Defaults to None: `rank`.

    Raises:
        InvalidTypeError: the model is not a `CrossViT`.

    Source: Hu et al., "LoRA", 2021; keras.layers.Dense.enable_lora.
    """
    head_variables = {id(variable) for head in _heads(model) for variable in head.trainable_variables}
    for variable in model.trainable_variables:
        variable.trainable = id(variable) in head_variables
    for layer in _attention_dense_layers(model):
        layer.enable_lora(rank, lora_alpha=lora_alpha)


def copy_to_train(model: CrossViT) -> CrossViT:
    """Returns a copy with variables of its own: same weights, same LoRA, same layers frozen.

    A variable belongs to the devices it was made for; those of the copy belong to the devices in use now. Compile the
    copy before training.
    """
    copy = type(model).from_config(model.get_config())
    for layer, original in zip(all_layers(copy), all_layers(model), strict=True):
        if getattr(original, "lora_enabled", False):
            layer.enable_lora(original.lora_rank, lora_alpha=original.lora_alpha)
    for variable, original in zip(copy.weights, model.weights, strict=True):
        variable.trainable = original.trainable
    copy.set_weights(model.get_weights())
    return copy


@keras.saving.register_keras_serializable(package="keras_crossvit")
@dataclasses.dataclass(frozen=True, eq=False)
class ScaledSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate schedule multiplied by a factor.

    Args:
        schedule: Any Keras schedule.
        scale: The factor.
    """

    schedule: keras.optimizers.schedules.LearningRateSchedule
    scale: float

    def __call__(self, step: Any) -> Any:
        """Returns the learning rate of a step."""
        return self.schedule(step) * self.scale

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor, the schedule as Keras serializes it."""
        return {"schedule": keras.optimizers.schedules.serialize(self.schedule), "scale": self.scale}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> ScaledSchedule:
        """Builds the schedule from what `get_config` returned."""
        return cls(keras.optimizers.schedules.deserialize(config["schedule"]), config["scale"])


def _heads(model: CrossViT) -> list[keras.layers.Layer]:
    config_of(model)  # raises unless it is a CrossViT; the names below mean nothing in another model
    return [layer for layer in model.layers if re.fullmatch(f"{_BRANCH}_head", layer.name)]


def _attention_dense_layers(model: CrossViT) -> list[keras.layers.Dense]:
    """Dense layers of the attentions in blocks and fusions."""
    attentions = []
    for layer in model.layers:
        if isinstance(layer, TransformerBlock):
            attentions.append(layer.attention)
        elif isinstance(layer, CrossAttentionFusion):
            attentions += layer.attentions
    layers = []
    for attention in attentions:
        separate = attention.cls_query_only
        layers += [attention.query, attention.key, attention.value] if separate else [attention.qkv]
        layers.append(attention.projection)
    return layers


def _scales_by_pattern(model: CrossViT, decay: float) -> dict[str, float]:
    """Scales by pattern of variable paths, from stems to heads, of the depths that have something to train.

    A Keras optimizer without variables has no EMA, and evaluating EMAs would fail.
    """
    last = len(config_of(model).depth) - 1
    stages = [f"stage_{stage}_.*" for stage in range(last)]
    patterns = [
        f"{_BRANCH}_(embedding|tokens)/.*",
        *stages,
        f"(stage_{last}_|{_BRANCH}_pooling/).*",
        f"{_BRANCH}_head/.*",
    ]
    paths = [variable.path for variable in model.trainable_variables]
    return {
        pattern: decay ** (len(patterns) - 1 - depth)
        for depth, pattern in enumerate(patterns)
        if any(re.fullmatch(pattern, path) for path in paths)
    }


def _scaled_copy(
    optimizer: keras.optimizers.Optimizer, scale: float, excluded: Sequence[keras.Variable]
) -> keras.optimizers.Optimizer:
    rate = optimizer.get_config()["learning_rate"]
    is_schedule = isinstance(rate, dict)
    rate = ScaledSchedule(keras.optimizers.schedules.deserialize(rate), scale) if is_schedule else rate * scale
    return excluding(optimizer, excluded, learning_rate=rate)
