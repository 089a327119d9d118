"""All models in one compiled JAX function: blocks of steps in a loop on the device, gradients by jax.grad.

The matrix products of the ensemble are either one batched product (`vmap` over stacked parameters) or one product per
model (the loop over models is unrolled in the compiled function). `prepare` measures which is faster on this machine.

With the protocol `ours` a custom derivative rule gives the decoder its Rao-Blackwellised targets, so that nothing is
decoded twice, and the rows come in phasevae's balanced order.
"""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from contenders.common import Contender, Run, epochs, fastest, flat
from phasevae.sweeps.settings import rows_sharing
from phasevae.theory.ppca import gaussian_kl

BLOCK = 256
"""Steps of one call of the compiled function."""
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
LOGVAR_RANGE = (-12.0, 8.0)
"""That of phasevae.model, which would load torch while JAX's start-up is timed."""


def prepare(run: Run) -> dict[str, Any]:
    """The faster kind of matrix product."""
    return fastest(start, run, [{"products": "vmap"}, {"products": "unrolled"}])


def start(run: Run, products: str) -> Contender:
    """Return the models before their training; `products`: vmap or unrolled."""
    return JaxEnsemble(run, products)


class JaxEnsemble:
    """The order of the rows is drawn on the host for each epoch and shared by all models, as in phasevae."""

    def __init__(self, run: Run, products: str):
        self.detail = f"{products}, jax {jax.__version__}"
        self._run = run
        self._rng = np.random.default_rng(run.seed)
        self._epochs = epochs(run, self._rng)
        self._rows = np.empty(0, np.int32)
        self._step = 0
        models = [initial(run, self._rng) for _ in run.sigma2]
        parameters = stack(models) if products == "vmap" else models
        zeros = [jax.tree.map(jnp.zeros_like, parameters) for _ in range(2)]
        self._state = (parameters, *zeros, jax.random.key(run.seed))
        self._x = jnp.asarray(run.x)
        block = make_block(run, products)
        self._block = jax.jit(block, donate_argnums=0).lower(self._state, self._x, *self._inputs(0)).compile()

    def train(self, steps: int) -> None:
        while steps:
            count = min(steps, BLOCK)
            self._state = self._block(self._state, self._x, *self._inputs(count))
            self._step += count
            steps -= count
        jax.block_until_ready(self._state)

    def parameters(self) -> NDArray[np.float32]:
        parameters = self._state[0]
        models = parameters if isinstance(parameters, list) else unstack(parameters, len(self._run.sigma2))
        return np.stack([flat([*encoder, *decoder]) for encoder, decoder in jax.device_get(models)])

    def _inputs(self, count: int) -> tuple:
        """(rows [BLOCK, batch], sigma2 factor and learning rate [BLOCK], first step, count) of the next steps.

        Entries beyond `count` are not used. The shapes never change, so the function is compiled only once.
        """
        settings, steps = self._run.settings, range(self._step, self._step + count)
        rows = np.zeros((BLOCK, settings.batch), np.int32)
        rows[:count] = self._next_rows(count * settings.batch).reshape(count, settings.batch)
        factor, rate = np.zeros((2, BLOCK), np.float32)
        factor[:count] = [settings.sigma2_factor_at(step) for step in steps]
        rate[:count] = [settings.learning_rate_at(step) for step in steps]
        return jnp.asarray(rows), jnp.asarray(factor), jnp.asarray(rate), jnp.int32(self._step), jnp.int32(count)

    def _next_rows(self, count: int) -> NDArray[np.int32]:
        while len(self._rows) < count:
            self._rows = np.concatenate([self._rows, next(self._epochs).astype(np.int32)])
        rows, self._rows = self._rows[:count], self._rows[count:]
        return rows


def make_block(run: Run, products: str) -> Any:
    """Return the function of (state, data, rows, sigma2 factors, learning rates, first step, count) that trains a block
    of steps and returns the next state."""
    sigma2 = jnp.asarray(run.sigma2, jnp.float32)
    draws = (len(run.sigma2), run.settings.batch, run.settings.n_latent)
    group = rows_sharing(run.settings.batch, run.settings.rao_blackwell_group)
    total = total_loss(products, run.settings.antithetic, group, run.x.mean(0, dtype=np.float64))

    def block(state: tuple, x: Any, rows: Any, factors: Any, rates: Any, first: Any, count: Any) -> tuple:
        def step(i: Any, state: tuple) -> tuple:
            parameters, mean, square, key = state
            key, used = jax.random.split(key)
            eps = jax.random.normal(used, draws)
            if run.settings.moment_matched_noise:
                eps = jnp.einsum("mbi,mij->mbj", eps, inverse_root(jnp.einsum("mbi,mbj->mij", eps, eps) / draws[1]))
            gradients = jax.grad(total)(parameters, x[rows[i]], eps, sigma2 * factors[i])
            return *adam(parameters, gradients, mean, square, rates[i], first + i + 1.0), key

        return jax.lax.fori_loop(0, count, step, state)

    return block


def inverse_root(near_one: Any) -> Any:
    """C^(-1/2) by the iteration of `phasevae.training.variance_reduction`."""
    identity = jnp.eye(near_one.shape[-1])
    root, inverse = near_one, jnp.broadcast_to(identity, near_one.shape)
    for _ in range(6):
        step = 1.5 * identity - 0.5 * inverse @ root
        root, inverse = root @ step, step @ inverse
    return inverse


def total_loss(products: str, antithetic: bool, group: int, mean: NDArray[np.float64]) -> Any:
    """Return the sum over models of the negative ELBO, without its constant, as a function.

    Parameters
    ----------
    products : vmap or unrolled
    antithetic : whether each noise draw is used with both signs
    group : rows that share the decoder's targets. Above 1 the derivative by the decoders' parameters has
        `rao_blackwell_targets` in place of x.
    mean : mean [D] of the data

    Returns
    -------
    callable : a function of (parameters, x [B, D], eps [M, B, n], sigma2 [M])
    """
    mean = jnp.asarray(mean, jnp.float32)

    def of_model(parameters: Any, x: Any, eps: Any, sigma2: Any) -> Any:
        encoder, decoder = parameters
        mu, logvar = jnp.split(perceptron(encoder, x), 2, axis=-1)
        logvar = jnp.clip(logvar, *LOGVAR_RANGE)
        spread = jnp.exp(0.5 * logvar) * eps
        z = jnp.concatenate((mu + spread, mu - spread)) if antithetic else mu + spread
        if group > 1:
            sse = shared_sse(group, decoder, z, x, mean, *jax.lax.stop_gradient((mu, logvar)))
        else:
            sse = mean_sse(perceptron(decoder, z), x)
        kl = gaussian_kl(mu, logvar, jnp.expm1).sum(-1)
        return sse / (2 * sigma2) + kl.mean()

    def vmapped(parameters: Any, x: Any, eps: Any, sigma2: Any) -> Any:
        return jax.vmap(of_model, (0, None, 0, 0))(parameters, x, eps, sigma2).sum()

    def unrolled(parameters: Any, x: Any, eps: Any, sigma2: Any) -> Any:
        return sum(of_model(model, x, eps[i], sigma2[i]) for i, model in enumerate(parameters))

    return vmapped if products == "vmap" else unrolled


def rao_blackwell_targets(x: Any, mean: Any, mu: Any, logvar: Any, z: Any, xhat: Any, group: int) -> Any:
    """Those of `phasevae.training.variance_reduction`, of one model: x [B, D]; mu, logvar [B, n]; z, xhat [A B, .]."""
    x = without_chance_of_mean(x, mean, xhat, len(x) // group // 2 * group)
    precision = jnp.exp(-logvar)
    of_rows = jnp.concatenate((-0.5 * precision, mu * precision, -0.5 * (mu**2 * precision + logvar)), -1)
    of_draws = jnp.concatenate((z**2, z, jnp.ones_like(z)), -1)
    x, of_rows = (part.reshape(-1, group, part.shape[-1]) for part in (x, of_rows))
    of_draws = of_draws.reshape(-1, *of_rows.shape)
    weights = jax.nn.softmax(jnp.einsum("agik,gjk->agij", of_draws, of_rows))
    return jnp.einsum("agij,gjd->agid", weights, x).reshape(-1, x.shape[-1])


def without_chance_of_mean(x: Any, mean: Any, xhat: Any, split: int) -> Any:
    if not 0 < split < len(x):
        return x
    centred, left = x - mean, x - xhat.reshape(-1, *x.shape).mean(0)

    def steady(own: slice, other: slice) -> Any:
        variance = jnp.maximum((centred[own] ** 2).sum(0), jnp.finfo(x.dtype).tiny)
        unexplained = ((left[own] * centred[own]).sum(0) / variance).clip(0, 1)
        return x[own] - unexplained * centred[other].mean(0)

    before, after = slice(None, split), slice(split, None)
    return jnp.concatenate((steady(before, after), steady(after, before)))


def mean_sse(xhat: Any, x: Any) -> Any:
    """Mean over rows and draws: xhat [A B, D], x [B, D]."""
    return ((xhat.reshape(-1, *x.shape) - x) ** 2).sum(-1).mean()


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def shared_sse(group: int, decoder: list[tuple], z: Any, x: Any, mean: Any, mu: Any, logvar: Any) -> Any:
    """Mean squared error of decoding z; its derivative by the decoder's parameters is that for the targets."""
    return mean_sse(perceptron(decoder, z), x)


def shared_sse_forward(group: int, decoder: list[tuple], z: Any, x: Any, mean: Any, mu: Any, logvar: Any) -> tuple:
    xhat, pull = jax.vjp(perceptron, decoder, z)
    return mean_sse(xhat, x), (pull, xhat, x, rao_blackwell_targets(x, mean, mu, logvar, z, xhat, group))


def shared_sse_backward(group: int, kept: tuple, cotangent: Any) -> tuple:
    pull, xhat, x, targets = kept
    scale = cotangent * 2 / len(xhat)
    # Half of each result is not used; the compiled function does not compute it.
    of_decoder, _ = pull(scale * (xhat - targets))
    _, of_z = pull(scale * (xhat.reshape(-1, *x.shape) - x).reshape(xhat.shape))
    return of_decoder, of_z, None, None, None, None


shared_sse.defvjp(shared_sse_forward, shared_sse_backward)


def perceptron(layers: list[tuple], h: Any) -> Any:
    *inner, (weight, bias) = layers
    for inner_weight, inner_bias in inner:
        h = jax.nn.relu(h @ inner_weight + inner_bias)
    return h @ weight + bias


def adam(parameters: Any, gradients: Any, mean: Any, square: Any, rate: Any, steps: Any) -> tuple:
    """One step of Adam; `steps` includes this one."""
    mean = jax.tree.map(lambda m, g: BETA1 * m + (1 - BETA1) * g, mean, gradients)
    square = jax.tree.map(lambda v, g: BETA2 * v + (1 - BETA2) * g * g, square, gradients)
    scale, root = rate / (1 - BETA1**steps), jnp.sqrt(1 - BETA2**steps)

    def moved(p: Any, m: Any, v: Any) -> Any:
        return p - scale * m / (jnp.sqrt(v) / root + EPSILON)

    return jax.tree.map(moved, parameters, mean, square), mean, square


def initial(run: Run, rng: np.random.Generator) -> tuple[list, list]:
    """(encoder, decoder) of one model, layers (weight, bias) uniform in +-1/sqrt(fan_in) as in PyTorch."""

    def layer(fan_in: int, fan_out: int) -> tuple:
        shapes, bound = ((fan_in, fan_out), (fan_out,)), fan_in**-0.5
        return tuple(jnp.asarray(rng.uniform(-bound, bound, shape), jnp.float32) for shape in shapes)

    encoder, decoder = ([layer(*pair) for pair in itertools.pairwise(widths)] for widths in run.networks)
    return encoder, decoder


def stack(models: list) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *models)


def unstack(stacked: Any, count: int) -> list:
    return [jax.tree.map(lambda leaf, i=i: leaf[i], stacked) for i in range(count)]
