"""TensorFlow without Keras: variables, a GradientTape and `assign_sub`, as its guide to the low-level API has it."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from benchmarks.programs import Array, Program, data, initial

Run = Callable[[int], Array]


def eager(program: Program) -> Run:
    """Gradient descent on the binary cross-entropy of sigmoid units, all rows in each step."""
    layers = [(tf.Variable(weight), tf.Variable(bias)) for weight, bias in initial(program)]
    variables = [variable for layer in layers for variable in layer]
    x, t = map(tf.constant, data(program))

    def forward() -> tf.Tensor:
        *hidden, last = layers
        if program.branches:
            h = tf.sigmoid(tf.concat([x @ weight + bias for weight, bias in hidden], axis=1))
        else:
            h = x
            for weight, bias in hidden:
                h = tf.sigmoid(h @ weight + bias)
        weight, bias = last
        return tf.sigmoid(h @ weight + bias)

    def run(steps: int) -> Array:
        losses = []
        for _ in range(steps):
            with tf.GradientTape() as tape:
                z = forward()
                loss = -tf.reduce_mean(t * tf.math.log(z) + (1 - t) * tf.math.log(1 - z))
            for variable, gradient in zip(variables, tape.gradient(loss, variables), strict=True):
                variable.assign_sub(program.rate * gradient)
            losses.append(loss)
        return np.array(losses)

    return run
