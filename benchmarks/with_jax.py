"""JAX with optax: `scan` runs the steps of an epoch in one `lax.scan`; `call` is one jitted step with donated state."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.programs import Array, Program, data, initial, orders, steps_an_epoch

Run = Callable[[int], Array]
Tree = Any

ACTIVATIONS = {"relu": jax.nn.relu, "sigmoid": jax.nn.sigmoid}
OPTIMIZERS = {"adam": optax.adam, "sgd": optax.sgd}


def binary_cross_entropy(z: jax.Array, t: jax.Array) -> jax.Array:
    return -(t * jnp.log(z) + (1 - t) * jnp.log(1 - z))


LOSSES = {
    "cross_entropy": optax.softmax_cross_entropy_with_integer_labels,
    "binary_cross_entropy": binary_cross_entropy,
    "mse": optax.squared_error,
}


def weights(program: Program) -> Tree:
    layers = [{"weight": jnp.array(weight), "bias": jnp.array(bias)} for weight, bias in initial(program)]
    if program.normalized:
        layers[:-1] = [p | {"scale": jnp.ones_like(p["bias"]), "shift": jnp.zeros_like(p["bias"])} for p in layers[:-1]]
    return layers


def averages(program: Program) -> Tree:
    """Return the means and variances that batch norm keeps for evaluation."""
    if not program.normalized:
        return []
    return [(jnp.zeros(size), jnp.ones(size)) for size in program.sizes[1:-1]]


def linear(p: Tree, x: jax.Array) -> jax.Array:
    return x @ p["weight"] + p["bias"]


def forward(program: Program, layers: Tree, kept: Tree, x: jax.Array, key: jax.Array) -> tuple[jax.Array, Tree]:
    """Return the outputs in training, and the averages as they are after this batch."""
    activation = ACTIVATIONS[program.activation]
    *hidden, last = layers
    kept_now = []
    if program.branches:
        x = activation(jnp.concatenate([linear(p, x) for p in hidden], axis=1))
        hidden = []
    for i, p in enumerate(hidden):
        x = linear(p, x)
        if program.normalized:
            mean, variance = x.mean(0), x.var(0)
            kept_now.append(tuple(0.9 * old + 0.1 * new for old, new in zip(kept[i], (mean, variance), strict=True)))
            x = (x - mean) * jax.lax.rsqrt(variance + 1e-5) * p["scale"] + p["shift"]
        x = activation(x)
        if program.dropout:
            keep = jax.random.bernoulli(jax.random.fold_in(key, i), 1 - program.dropout, x.shape)
            x = jnp.where(keep, x / (1 - program.dropout), 0)
    x = linear(last, x)
    return jax.nn.sigmoid(x) if program.loss == "binary_cross_entropy" else x, kept_now


def training(program: Program) -> tuple[Callable[..., tuple], Tree]:
    """Return the step from state and minibatch to state and loss, and the first state."""
    optimizer = OPTIMIZERS[program.optimizer](program.rate)

    def loss_of(layers: Tree, kept: Tree, x: jax.Array, t: jax.Array, key: jax.Array) -> tuple[jax.Array, Tree]:
        outputs, kept = forward(program, layers, kept, x, key)
        return LOSSES[program.loss](outputs, t).mean(), kept

    def step(state: Tree, x: jax.Array, t: jax.Array) -> tuple[Tree, jax.Array]:
        layers, kept, moments, key = state
        key, now = jax.random.split(key) if program.dropout else (key, key)
        (loss, kept), gradients = jax.value_and_grad(loss_of, has_aux=True)(layers, kept, x, t, now)
        changes, moments = optimizer.update(gradients, moments, layers)
        return (optax.apply_updates(layers, changes), kept, moments, key), loss

    layers = weights(program)
    return step, (layers, averages(program), optimizer.init(layers), jax.random.key(0))


def scan(program: Program) -> Run:
    step, state = training(program)
    x, t = map(jnp.array, data(program))

    @partial(jax.jit, static_argnames="steps", donate_argnums=0)
    def epoch(state: Tree, x: jax.Array, t: jax.Array, rows: jax.Array | None, steps: int) -> tuple[Tree, jax.Array]:
        def minibatch(state: Tree, rows: jax.Array | None) -> tuple[Tree, jax.Array]:
            return step(state, x, t) if rows is None else step(state, x[rows], t[rows])

        # Four steps a turn halve the time of XOR, whose steps are shorter than a turn of XLA's loop.
        return jax.lax.scan(minibatch, state, rows, length=steps, unroll=1 if program.batch else 4)

    rows = jnp.array(orders(program, steps_an_epoch(program), len(x))) if program.batch else None

    def run(steps: int) -> Array:
        nonlocal state
        state, losses = epoch(state, x, t, None if rows is None else rows[:steps], steps)
        return np.asarray(losses)

    return run


def call(program: Program) -> Run:
    step, state = training(program)
    step = jax.jit(step, donate_argnums=0)
    x, t = (jnp.array(values[: program.batch]) for values in data(program))

    def run(steps: int) -> Array:
        nonlocal state
        losses = []
        for _ in range(steps):
            state, loss = step(state, x, t)
            losses.append(loss)
        return np.array(jax.device_get(losses))

    return run


def predict(program: Program) -> Run:
    layers = weights(program)
    x = jnp.array(data(program)[0][: program.batch])
    outputs_of = jax.jit(lambda layers, x: forward(program, layers, [], x, None)[0])

    def run(steps: int) -> Array:
        for _ in range(steps):
            outputs = outputs_of(layers, x).block_until_ready()
        return np.asarray(outputs)

    return run
