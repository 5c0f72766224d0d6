import jax
import jax.numpy as jnp
import optax
from images import load

EPOCHS, BATCH = 5, 32

x, labels = map(jnp.array, load())
keys = jax.random.split(jax.random.key(0), 3)
he = jax.nn.initializers.he_normal()
parameters = [(he(keys[0], (784, 128)), jnp.zeros(128)), (he(keys[1], (128, 10)), jnp.zeros(10))]
optimizer = optax.adam(1e-3)


def loss_of(parameters, x, labels):
    (w1, b1), (w2, b2) = parameters
    logits = jax.nn.relu(x @ w1 + b1) @ w2 + b2
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


@jax.jit
def epoch(state, x, labels, key):
    def step(state, rows):
        parameters, moments = state
        loss, gradients = jax.value_and_grad(loss_of)(parameters, x[rows], labels[rows])
        changes, moments = optimizer.update(gradients, moments, parameters)
        return (optax.apply_updates(parameters, changes), moments), loss

    rows = jax.random.permutation(key, len(x)).reshape(-1, BATCH)
    return jax.lax.scan(step, state, rows)


state = parameters, optimizer.init(parameters)
for key in jax.random.split(keys[2], EPOCHS):
    state, losses = epoch(state, x, labels, key)
print(losses.mean())
