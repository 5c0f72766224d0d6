"""Keras on TensorFlow: `fit` is `model.fit` as it comes; `call` and `predict` are its two ways of inference."""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from benchmarks.programs import Array, Program, data, initial

Run = Callable[[int], Array]

LOSSES = {
    "cross_entropy": lambda: keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    "binary_cross_entropy": keras.losses.BinaryCrossentropy,
    "mse": keras.losses.MeanSquaredError,
}
OPTIMIZERS = {"adam": keras.optimizers.Adam, "sgd": keras.optimizers.SGD}


def network(program: Program) -> keras.Model:
    layers = [keras.layers.Dense(outputs) for _, outputs in program.shapes()]
    *hidden, last = layers
    inputs = x = keras.Input((program.sizes[0],))
    if program.branches:
        x = keras.layers.Concatenate()([layer(x) for layer in hidden])
        x = keras.layers.Activation(program.activation)(x)
        hidden = []
    for layer in hidden:
        x = layer(x)
        if program.normalized:
            x = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(x)
        x = keras.layers.Activation(program.activation)(x)
        if program.dropout:
            x = keras.layers.Dropout(program.dropout)(x)
    x = last(x)
    if program.loss == "binary_cross_entropy":
        x = keras.layers.Activation("sigmoid")(x)
    for layer, values in zip(layers, initial(program), strict=True):
        layer.set_weights(values)
    return keras.Model(inputs, x)


def fit(program: Program) -> Run:
    model = network(program)
    model.compile(OPTIMIZERS[program.optimizer](program.rate), LOSSES[program.loss]())
    x, t = data(program)

    def run(steps: int) -> Array:
        rows = steps * program.batch
        return np.array(model.fit(x[:rows], t[:rows], batch_size=program.batch, verbose=0).history["loss"])

    return run


def call(program: Program) -> Run:
    model = network(program)
    x = tf.constant(data(program)[0][: program.batch])

    def run(steps: int) -> Array:
        for _ in range(steps):
            outputs = model(x, training=False)
        return outputs.numpy()

    return run


def predict(program: Program) -> Run:
    model = network(program)
    x = data(program)[0][: program.batch]

    def run(steps: int) -> Array:
        for _ in range(steps):
            outputs = model.predict(x, verbose=0)
        return outputs

    return run
