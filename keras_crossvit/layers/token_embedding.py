"""The tokens that enter the transformer blocks."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_crossvit.layers._factories import arguments_of, dropout, normal_initializer, require_known_sizes


@keras.saving.register_keras_serializable(package="keras_crossvit")
class TokenEmbedding(keras.layers.Layer):
    """Prepends the class token and adds the learned position embedding.

    Args:
        drop_rate: Dropout rate of the sum. Defaults to 0.0.

    Inputs:
        Patch tokens of shape (B, N, C).

    Returns:
        Tokens of shape (B, 1 + N, C), class token first.

    Raises:
        ValueError: the number of patches is unknown when the layer is built.

    Source: paper, section 3.1, equation 1; timm.models.crossvit.CrossVit.forward_features.
    """

    def __init__(self, *, drop_rate: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.drop_rate = drop_rate
        self.dropout = dropout("dropout", drop_rate, self.dtype_policy)

    def build(self, input_shape: tuple) -> None:
        _, patches, channels = input_shape
        require_known_sizes("number of patches", (patches,), "give it in the shape of keras.Input.")
        self.class_token = self.add_weight(name="class_token", shape=(1, 1, channels), initializer=normal_initializer())
        self.position_embedding = self.add_weight(
            name="position_embedding", shape=(1, 1 + patches, channels), initializer=normal_initializer()
        )

    def call(self, patches: Any, training: bool | None = None) -> Any:
        # A row of zeros, to which the class token is added: no shape depends on the batch size.
        class_token = ops.pad(self.class_token, ((0, 0), (0, self.position_embedding.shape[1] - 1), (0, 0)))
        tokens = ops.pad(patches, ((0, 0), (1, 0), (0, 0))) + (self.position_embedding + class_token)
        return self.dropout(tokens, training=training)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        tokens = self.position_embedding.shape[1] if self.built else 1 + input_shape[1]
        return (input_shape[0], tokens, input_shape[2])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **arguments_of(self, "drop_rate")}
