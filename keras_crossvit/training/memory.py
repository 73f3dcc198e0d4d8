"""Less memory for more computing: blocks that forget what they computed, and compute it again for the gradient."""

from __future__ import annotations

from typing import Any

import keras

from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit.layers import TransformerBlock


def enable_gradient_checkpointing(model: Any) -> None:
    """Lets attention and MLP of every transformer block be computed again for the gradient, by `keras.remat`.

    The result is the same to rounding. `keras.RematScope` does not take layers that are called with `training=` under
    TensorFlow. Drop-path stays outside, since what is computed again would draw other masks; for the same reason there
    may be no dropout inside. Call this before `compile`; saved files know nothing of it.

    Args:
        model: A `CrossViT`.

    Raises:
        ValueError: the model has dropout within attention or MLP.
    """
    config = model.config
    if config.drop_rate or config.attn_drop_rate:
        raise InvalidValueError(
            f"gradient checkpointing does not go with drop_rate {config.drop_rate:g} and attn_drop_rate "
            f"{config.attn_drop_rate:g}: other units would be dropped in the second computation; use 0 for both."
        )
    for layer in model.layers:
        if isinstance(layer, TransformerBlock):
            for part in (layer.attention, layer.mlp):
                part.call = _recomputed(part.call)


def _recomputed(call: Any) -> Any:
    def call_again(tokens: Any, training: bool | None = None) -> Any:
        # As a closure: under TensorFlow the wrapped function may take tensors alone, and by position.
        return keras.remat(lambda inputs: call(inputs, training=training))(tokens)

    return call_again
