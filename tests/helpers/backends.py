"""Outputs, losses and gradients on whichever backend Keras runs; on JAX compiled as a whole, which is far quicker."""

import inspect

import keras


def call(model, inputs):
    """Outputs in inference as NumPy arrays."""
    if keras.backend.backend() == "jax":
        return model.predict_on_batch(inputs)
    return keras.tree.map_structure(keras.ops.convert_to_numpy, model(inputs, training=False))


def gradient_function(layer, inputs, loss_of, *, training=False):
    """Returns a function that gives the loss at the present weights, and the gradients as arrays or None by path."""
    make = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}[keras.backend.backend()]
    compute = make(layer, inputs, loss_of, training)

    def loss_and_gradients():
        loss, gradients = compute()
        to_numpy = keras.ops.convert_to_numpy
        arrays = [None if gradient is None else to_numpy(gradient) for gradient in gradients]
        paths = [variable.path for variable in layer.trainable_variables]
        return float(to_numpy(loss)), dict(zip(paths, arrays, strict=True))

    return loss_and_gradients


def _tensorflow(layer, inputs, loss_of, training):
    import tensorflow as tf

    def compute():
        with tf.GradientTape() as tape:
            loss = loss_of(layer(inputs, training=training))
        return loss, tape.gradient(loss, [variable.value for variable in layer.trainable_variables])

    return compute


def _jax(layer, inputs, loss_of, training):
    import jax

    takes_training = "training" in inspect.signature(layer.call).parameters  # which stateless_call does not look up
    keywords = {"training": training} if takes_training else {}

    def loss(trained, frozen):
        return loss_of(layer.stateless_call(trained, frozen, inputs, **keywords)[0])

    compiled = jax.jit(jax.value_and_grad(loss))
    return lambda: compiled(
        [variable.value for variable in layer.trainable_variables],
        [variable.value for variable in layer.non_trainable_variables],
    )


def _torch(layer, inputs, loss_of, training):
    def compute():
        layer.zero_grad()
        loss = loss_of(layer(inputs, training=training))
        loss.backward()
        return loss.detach(), [variable.value.grad for variable in layer.trainable_variables]

    return compute
