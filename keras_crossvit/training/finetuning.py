"""What fine-tuning asks of a model: what to train, how fast, and what to leave out of weight decay."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

import keras

from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit._internal.optimizers import LayerWiseOptimizer, excluded_variables, excluding
from keras_crossvit.layers import CrossAttentionFusion, TransformerBlock
from keras_crossvit.models.config import BRANCHES, CrossViTConfig, config_of

_NOT_DECAYED = ("class_token", "position_embedding")


def freeze_all_but_head(model: Any) -> None:
    """Makes the heads of a CrossViT the only layers that train; compile the model afterwards.

    Raises:
        TypeError: the model is no `CrossViT`.
        ValueError: the model has no head.
    """
    heads = _heads(model)
    for layer in model.layers:
        layer.trainable = layer in heads


def unfreeze(model: Any) -> None:
    """Makes all layers of a CrossViT train; compile the model afterwards.

    Keras' `model.trainable = True` leaves the layers of a functional model as they are if the model was trainable.
    """
    for layer in model.layers:
        layer.trainable = True


def no_weight_decay_variables(model: Any) -> list[Any]:
    """Variables that the authors leave out of weight decay: biases, norms, class tokens and position embeddings.

    Args:
        model: A `CrossViT`.

    Returns:
        List for `optimizer.exclude_from_weight_decay`, which is called before the optimizer is built.

    Source: timm.optim.param_groups_weight_decay; timm.models.crossvit.CrossVit.no_weight_decay.
    """
    return [
        variable for variable in model.trainable_variables if len(variable.shape) <= 1 or variable.name in _NOT_DECAYED
    ]


def learning_rate_scales(model: Any, *, decay: float = 0.75) -> dict[str, float]:
    """Factor on the learning rate of every variable, by layer-wise decay.

    The depth of a variable is 0 in the stems and token embeddings, 1 in the first stage and so on; the last norms count
    to the last stage; the heads come after it, with a factor of 1.

    Args:
        model: A `CrossViT`.
        decay: Factor from one depth to the one before. Defaults to 0.75.

    Returns:
        Mapping from the variables' paths to `decay` ** (depth of the heads - depth).

    Source: Bao et al., "BEiT", 2021, appendix; timm.optim.param_groups_layer_decay.
    """
    groups = list(_groups(config_of(model), decay).items())
    return {
        variable.path: next((scale for pattern, scale in groups if re.fullmatch(pattern, variable.path)), 1.0)
        for variable in model.trainable_variables
    }


def layer_wise_optimizer(
    model: Any,
    optimizer: keras.optimizers.Optimizer,
    *,
    decay: float = 0.75,
    exclude_from_weight_decay: Sequence[Any] = (),
) -> LayerWiseOptimizer:
    """Optimizer with the learning rates of `learning_rate_scales`: a copy of the given one per depth.

    Args:
        model: A `CrossViT`.
        optimizer: Any Keras optimizer that is not built yet; its learning rate, a number or a schedule, is the heads',
            and what it leaves out of weight decay stays out.
        decay: Factor from one depth to the one before. Defaults to 0.75.
        exclude_from_weight_decay: More variables without weight decay, such as `no_weight_decay_variables(model)`.
            Defaults to none.

    Returns:
        An optimizer for `model.compile`. Keras' callbacks that set the learning rate do not work with it; give
        `optimizer` a schedule instead.
    """
    groups, scale_of_the_rest = _groups_that_train(model, decay)
    excluded = [*exclude_from_weight_decay, *excluded_variables(optimizer, model.variables)]
    by_pattern = {pattern: _scaled(optimizer, scale, excluded) for pattern, scale in groups.items()}
    rest = _scaled(optimizer, scale_of_the_rest, excluded)
    return LayerWiseOptimizer(keras.optimizers.OptimizerMap(rest, by_pattern))


def enable_lora(model: Any, rank: int, *, lora_alpha: float | None = None) -> None:
    """Leaves to train the heads and, by Keras' LoRA, low-rank changes of all dense products of the attentions.

    Compile the model afterwards. What has been learnt is merged into the kernels of every file that the model is saved
    in, so a model loaded from it is a plain one again.

    Args:
        model: A `CrossViT` with its weights loaded.
        rank: Rank of the changes.
        lora_alpha: The changes are scaled by `lora_alpha` / `rank`. Defaults to None, which is `rank`.

    Raises:
        TypeError: the model is no `CrossViT`.

    Source: Hu et al., "LoRA", 2021; keras.layers.Dense.enable_lora.
    """
    of_heads = {id(variable) for head in _heads(model, required=False) for variable in head.trainable_variables}
    for variable in model.trainable_variables:
        variable.trainable = id(variable) in of_heads
    for layer in attention_dense_layers(model):
        layer.enable_lora(rank, lora_alpha=lora_alpha)


def copy_to_train(model: Any) -> Any:
    """A `CrossViT` like the given one that shares no variable with it: weights, LoRA and what is frozen are the same.

    Variables belong to the devices for which they were made; made again, they belong to those in use now.

    Args:
        model: A `CrossViT`.

    Returns:
        The copy; compile it before it is trained.
    """
    copy = type(model).from_config(model.get_config())
    for layer, original in zip(copy._flatten_layers(), model._flatten_layers(), strict=True):
        if getattr(original, "lora_enabled", False):
            layer.enable_lora(original.lora_rank, lora_alpha=original.lora_alpha)
    for variable, original in zip(copy.weights, model.weights, strict=True):
        variable.trainable = original.trainable
    copy.set_weights(model.get_weights())
    return copy


def attention_dense_layers(model: Any) -> list[keras.layers.Dense]:
    """Dense layers of all attentions of a CrossViT, of the blocks and of the fusions."""
    attentions = []
    for layer in model.layers:
        if isinstance(layer, TransformerBlock):
            attentions.append(layer.attention)
        elif isinstance(layer, CrossAttentionFusion):
            attentions += layer.attentions
    layers = []
    for attention in attentions:
        alone = attention.cls_query_only
        layers += [attention.query, attention.key, attention.value] if alone else [attention.qkv]
        layers.append(attention.projection)
    return layers


@keras.saving.register_keras_serializable(package="keras_crossvit")
@dataclasses.dataclass(frozen=True, eq=False)
class ScaledSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate schedule times a factor.

    Args:
        schedule: Any Keras schedule.
        scale: The factor.
    """

    schedule: keras.optimizers.schedules.LearningRateSchedule
    scale: float

    def __call__(self, step: Any) -> Any:
        """The learning rate of a step."""
        return self.schedule(step) * self.scale

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor, the schedule as Keras serializes it."""
        return {"schedule": keras.optimizers.schedules.serialize(self.schedule), "scale": self.scale}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> ScaledSchedule:
        """Builds the schedule that `variant_config` describes."""
        return cls(keras.optimizers.schedules.deserialize(config["schedule"]), config["scale"])


def _heads(model: Any, *, required: bool = True) -> list[Any]:
    config_of(model)  # another model may have layers of no name that is known here, and would be frozen altogether
    names = {f"{branch}_head" for branch in BRANCHES}
    heads = [layer for layer in model.layers if layer.name in names]
    if required and not heads:
        raise InvalidValueError(
            "num_classes 0 leaves the model without a head to train; build it with num_classes of 1 or more."
        )
    return heads


def _groups(config: CrossViTConfig, decay: float) -> dict[str, float]:
    """Scales by pattern of the variables' paths, for all but the heads."""
    last = len(config.depth) - 1
    patterns = [f"({'|'.join(BRANCHES)})_(embedding|tokens)/.*"]
    patterns += [f"stage_{stage}_.*" for stage in range(last)]
    patterns.append(f"(stage_{last}_|({'|'.join(BRANCHES)})_pooling/).*")
    return {pattern: decay ** (len(patterns) - depth) for depth, pattern in enumerate(patterns)}


def _groups_that_train(model: Any, decay: float) -> tuple[dict[str, float], float]:
    """Scales by pattern of what is not frozen, and the scale of all other variables, of which there are some.

    Keras' optimizer without variables has no running mean of them, where others ask for it.
    """
    paths = [variable.path for variable in model.trainable_variables]
    groups = {
        pattern: scale
        for pattern, scale in _groups(config_of(model), decay).items()
        if any(re.fullmatch(pattern, path) for path in paths)
    }
    if not groups or any(not any(re.fullmatch(pattern, path) for pattern in groups) for path in paths):
        return groups, 1.0
    _, scale = groups.popitem()  # the heads are frozen
    return groups, scale


def _scaled(optimizer: Any, scale: float, excluded: Sequence[Any]) -> Any:
    rate = optimizer.get_config()["learning_rate"]
    if isinstance(rate, dict):
        rate = ScaledSchedule(keras.optimizers.schedules.deserialize(rate), scale)
    else:
        rate = rate * scale
    return excluding(optimizer, excluded, learning_rate=rate)
