"""Dtype policies of models that have layers with their own policy, as quantized layers have."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras
from keras.dtype_policies import DTypePolicyMap

from keras_crossvit._internal.dtypes import HALF_PRECISIONS
from keras_crossvit._internal.keras_compat import all_layers


def output_policy(policy: Any) -> Any:
    """Returns the policy of heads and logits: float32 where the model computes in half precision.

    Layers that have their own policy in a policy map keep it.
    """
    if policy.compute_dtype not in HALF_PRECISIONS:
        return policy
    if isinstance(policy, DTypePolicyMap):
        return DTypePolicyMap(default_policy="float32", policy_map={**policy})
    return keras.dtype_policies.get("float32")


def in_float32(model: Any) -> Any:
    """Returns the CrossViT if it computes in float32, or else a float32 model with the same weights."""
    if all(layer.compute_dtype == "float32" for layer in all_layers(model)):
        return model
    copy = type(model).from_config({**model.get_config(), "dtype": "float32"})
    copy.set_weights(model.get_weights())
    return copy


def policy_of(layer: Any) -> Any:
    """Returns the policy of a layer, also if the layer has a map of many layers' policies."""
    policy = layer.dtype_policy
    return policy[layer.path] if isinstance(policy, DTypePolicyMap) else policy


def with_policies_of(policy: Any, layers: Iterable[Any]) -> Any:
    """Returns a model's policy, extended by those of single layers."""
    own = {layer.path: policy_of(layer) for layer in layers}
    if not own:
        return policy
    known, default = (policy, policy.default_policy) if isinstance(policy, DTypePolicyMap) else ({}, policy)
    return DTypePolicyMap(default_policy=default, policy_map={**known, **own})
