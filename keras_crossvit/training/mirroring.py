"""Gradients of a mirrored model, summed over its replicas before anything else looks at them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras_crossvit._internal.errors import OperationError

_KERAS_SUM = "_all_reduce_sum_gradients"


def sum_gradients_first(optimizer: Any) -> None:
    """Lets an optimizer sum the gradients of all replicas first, as one device would have them.

    Keras sums them last: by then each replica has clipped its own by their norm, and a `LossScaleOptimizer` has looked
    for infinities on the first replica alone.

    Args:
        optimizer: A Keras optimizer made in the scope of a `tf.distribute.MirroredStrategy`; it is changed.

    Raises:
        RuntimeError: this release of Keras sums in another place, and would sum once more.
    """
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    for each in getattr(inner, "optimizers", [inner]):
        if not hasattr(each, _KERAS_SUM):
            raise OperationError(
                "this release of Keras sums gradients of replicas in a place that is not known here; install "
                "keras~=3.15.1, or train by distribute 'data-parallel' on JAX."
            )
        setattr(each, _KERAS_SUM, list)  # the pairs of gradients and variables as they are
    apply = optimizer.apply

    def apply_sum(gradients: Sequence[Any], variables: Sequence[Any] | None = None) -> None:
        import tensorflow as tf

        replica = tf.distribute.get_replica_context()
        apply(replica.all_reduce(tf.distribute.ReduceOp.SUM, list(gradients)), variables)

    optimizer.apply = apply_sum
