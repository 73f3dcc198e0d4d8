"""Dtype policies of models that have layers with their own policy, as quantized layers have."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras
from keras.dtype_policies import DTypePolicyMap

from keras_crossvit._internal.dtypes import HALF_PRECISIONS


def output_policy(policy: Any) -> Any:
    """Returns the policy of heads and logits: float32 where the model computes in half precision.

    Layers that have their own policy in a policy map keep it.
    """
    if policy.compute_dtype not in HALF_PRECISIONS:
        return policy
    if isinstance(policy, DTypePolicyMap):
        return DTypePolicyMap(default_policy="float32", policy_map={**policy})
    return keras.dtype_policies.get("float32")


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
