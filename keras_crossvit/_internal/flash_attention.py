"""Flash attention by cuDNN, through JAX: `keras.ops` cannot leave out the token that makes their number even."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_crossvit._internal.dtypes import HALF_PRECISIONS


def has_flash_attention(dtype: str, head_dim: int) -> bool:
    """Returns whether `flash_attention` works on this backend and GPU, for a dtype and channels per head."""
    if keras.backend.backend() != "jax" or dtype not in HALF_PRECISIONS or head_dim % 8 or head_dim > 128:
        return False
    import jax

    # AMD's GPUs have names here; cuDNN's attention needs 8.0.
    capability = getattr(jax.local_devices()[0], "compute_capability", "")
    return capability.replace(".", "").isdecimal() and float(capability) >= 8


def flash_attention(query: Any, key: Any, value: Any, scale: float) -> Any:
    """Computes softmax(scale q k^T) v for (B, T, H, D) by cuDNN, which never stores the scores, with an even T.

    JAX refuses the gradient for an odd number of tokens. Then one more is added that is not a key, and (B, T + 1, H, D)
    is returned.
    """
    import jax

    lengths = None
    if (num_tokens := query.shape[1]) % 2:
        query, key, value = (ops.pad(each, ((0, 0), (0, 1), (0, 0), (0, 0))) for each in (query, key, value))
        lengths = ops.full((ops.shape(query)[0],), num_tokens, "int32")
    return jax.nn.dot_product_attention(
        query, key, value, scale=scale, key_value_seq_lengths=lengths, implementation="cudnn"
    )
