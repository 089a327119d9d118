"""Do other optimisers reach the KL curve with fewer samples than Adam? Muon, SOAP, K-FAC, rates of layers, schedules.

    python benchmarks/optimisers.py                                            two hours of one thread
    python benchmarks/optimisers.py --updates adam,muon --samples 1e5,2e5 --batch 128 --seeds 0,1,2
    python benchmarks/optimisers.py --rows 4096 --samples 2e3 --seeds 0        a quick look

trains the 16 models of a data set of benchmarks/time_to_accuracy.py with each update and prints, for each budget of
samples a model, the RMS error of KL in nats (median, and each seed) and the processor seconds of the training.

Everything but the update is the default training: its gradients, schedules and noise. Each step of the trainer is
followed by the update, which replaces what Adam did to some layers:

    adam        nothing is replaced
    scaled      every 10 steps each latent gets second moment 1; the decoder's outputs stay as they are
    muon        orthogonalised momentum for the layers between two hidden ones (Jordan et al. 2024)
    soap        Adam in the eigenbasis of Shampoo's factors, for the same layers (Vyas et al. 2024)
    kfac-last   K-FAC for the last layers of encoder and decoder (Martens & Grosse 2015)
    kfac-latent K-FAC for the layers at the latents, the last of the encoder and the first of the decoder
    kfac        K-FAC for all layers
    fast-latent Adam with three times the learning rate for the layers at the latents
    slow-latent Adam with a third of the learning rate there

`--schedules` trains with each of these learning rates, relative to the largest, after the linear rise of the default:

    cosine      along a cosine to zero; the default
    linear      along a line to zero
    quadratic   the square of that line
    held-half   constant for half of the training, then along a line to zero
    held-anneal constant while the decoder variance rises, then along a cosine to zero
    root-anneal constant while the decoder variance rises, then along one minus a square root to zero

docs/research/training.md has the results, most of them of a prototype over eight points; here all sixteen count.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable

import numpy as np
import torch
from contenders import common, course
from shared import make_parser, markdown_table, numbers, some_of
from torch import Tensor

from phasevae.kernels.mlp import Layer
from phasevae.model import LOGVAR_RANGE
from phasevae.spectrum.measure import compute_spectrum
from phasevae.sweeps.settings import Member, Settings, cosine
from phasevae.training.trainer import Trainer


def layer_of(buffer: Tensor, layer: Layer) -> Tensor:
    """A view [M, in + 1, out] of a layer in a buffer [M, P]: its weight, and the bias as the last row."""
    end = layer.offset + (layer.fan_in + 1) * layer.fan_out
    return buffer[:, layer.offset : end].unflatten(1, (layer.fan_in + 1, layer.fan_out))


class Update:
    """What replaces Adam's update of some layers; Adam itself, which replaces nothing."""

    def __init__(self, trainer: Trainer, x: Tensor):
        self.trainer, self.x = trainer, x
        self.encoder, self.decoder = trainer.model.encoder.layers, trainer.model.decoder.layers
        self.at_latents = [self.encoder[-1], self.decoder[0]]
        self.layers: list[Layer] = []
        self.old: dict[Layer, Tensor] = {}

    def step(self) -> None:
        """Do one step of the training."""
        trainer = self.trainer
        parameters, step = trainer.model.parameters, trainer.step
        self.before(step)
        self.old = {layer: layer_of(parameters, layer).clone() for layer in self.layers}
        trainer.run(until=step + 1)
        share = trainer.settings.learning_rate_at(step) / trainer.settings.learning_rate
        for layer, change in self.changes(step).items():
            layer_of(parameters, layer).copy_(self.old[layer] + share * change)
        self.after(step)

    def before(self, step: int) -> None:
        """Called before a step."""

    def changes(self, step: int) -> dict[Layer, Tensor]:
        """Changes of the layers in this step, at the largest learning rate."""
        return {}

    def after(self, step: int) -> None:
        """Called after a step."""

    def gradient(self, layer: Layer) -> Tensor:
        return layer_of(self.trainer.gradients, layer)


class FastLatents(Update):
    """Adam with another learning rate for the layers at the latents."""

    FACTOR = 3.0

    def __init__(self, trainer: Trainer, x: Tensor):
        super().__init__(trainer, x)
        self.layers = self.at_latents

    def changes(self, step: int) -> dict[Layer, Tensor]:
        settings, parameters = self.trainer.settings, self.trainer.model.parameters
        factor = self.FACTOR * settings.learning_rate / settings.learning_rate_at(step)
        return {layer: factor * (layer_of(parameters, layer) - old) for layer, old in self.old.items()}


class SlowLatents(FastLatents):
    """The same with a lower one."""

    FACTOR = 1 / 3


class Scaled(Update):
    """Scales every latent to E mu^2 + E sigma^2 = 1, which holds at an optimum; the first decoder layer undoes it."""

    def after(self, step: int) -> None:
        if step % 10 or step < 20:
            return
        mu, logvar = self.trainer.model.encode(self.x[torch.randint(len(self.x), (1, 256))[0]][None])
        factor = (mu.square().mean(1) + logvar.exp().mean(1)).rsqrt().clamp(0.5, 2)
        n = mu.shape[-1]
        last = layer_of(self.trainer.model.parameters, self.encoder[-1])
        last[..., :n] *= factor[:, None]
        last[:, -1, n:] += 2 * factor.log()
        layer_of(self.trainer.model.parameters, self.decoder[0])[:, :n] /= factor[..., None]


class Inner(Update):
    """An update of the layers between two hidden ones."""

    def __init__(self, trainer: Trainer, x: Tensor):
        super().__init__(trainer, x)
        self.layers = [*self.encoder[1:-1], *self.decoder[1:-1]]
        self.momentum = {layer: torch.zeros_like(self.gradient(layer)) for layer in self.layers}


class Muon(Inner):
    """Momentum whose singular values are brought to 1 by five Newton-Schulz iterations."""

    RATE, MOMENTUM = 0.01, 0.95

    def changes(self, step: int) -> dict[Layer, Tensor]:
        changes = {}
        for layer in self.layers:
            gradient = self.gradient(layer)
            momentum = self.momentum[layer].mul_(self.MOMENTUM).add_(gradient)
            direction = gradient + self.MOMENTUM * momentum
            is_tall = layer.fan_in >= layer.fan_out
            x = direction.mT if is_tall else direction
            x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-12)
            for _ in range(5):
                square = x @ x.mT
                x = 3.4445 * x + (2.0315 * square @ square - 4.7750 * square) @ x
            changes[layer] = -0.2 * math.sqrt(max(x.shape[1:])) * self.RATE * (x.mT if is_tall else x)
        return changes


class Soap(Inner):
    """Adam in the eigenbasis of Shampoo's factors, which a QR step follows every 10 steps."""

    BETA1, BETA2, OF_FACTORS, EVERY = 0.9, 0.99, 0.95, 10

    def __init__(self, trainer: Trainer, x: Tensor):
        super().__init__(trainer, x)
        self.squares = {layer: torch.zeros_like(momentum) for layer, momentum in self.momentum.items()}
        self.factors: dict[Layer, list[Tensor]] = {}
        self.bases: dict[Layer, list[Tensor]] = {}

    def changes(self, step: int) -> dict[Layer, Tensor]:
        changes = {}
        bias1, bias2 = 1 - self.BETA1 ** (step + 1), 1 - self.BETA2 ** (step + 1)
        for layer in self.layers:
            gradient = self.gradient(layer)
            self._follow(layer, [gradient @ gradient.mT, gradient.mT @ gradient], step)
            left, right = self.bases[layer]
            momentum = self.momentum[layer].lerp_(gradient, 1 - self.BETA1)
            squares = self.squares[layer].lerp_((left.mT @ gradient @ right).square(), 1 - self.BETA2)
            rotated = (left.mT @ momentum @ right) / bias1 / ((squares / bias2).sqrt() + 1e-8)
            changes[layer] = -self.trainer.settings.learning_rate * (left @ rotated @ right.mT)
        return changes

    def _follow(self, layer: Layer, products: list[Tensor], step: int) -> None:
        """Add the products of the gradient to the factors; turn the bases towards their eigenvectors."""
        if layer not in self.factors:
            self.factors[layer] = products
            self.bases[layer] = [torch.linalg.eigh(factor)[1] for factor in products]
            return
        for factor, product in zip(self.factors[layer], products, strict=True):
            factor.lerp_(product, 1 - self.OF_FACTORS)
        if step % self.EVERY == 0 or step in (2, 4, 7):
            both = zip(self.factors[layer], self.bases[layer], strict=True)
            self.bases[layer] = [torch.linalg.qr(factor @ basis)[0] for factor, basis in both]


class Kfac(Update):
    """K-FAC with the Fisher information of the outputs: of q(z | x) for the encoder, of p(x | z) for the decoder.

    The factors are estimated from 256 random rows, 20 times from a tenth of the training on, then every 4 steps. The
    first 10 estimates are averaged; each later one has weight 0.1. Adam trains all layers until there are 20.
    """

    RATE, MOMENTUM, BEGIN, ESTIMATES, EVERY, MEMORY, DAMPING, LARGEST = 0.1, 0.9, 0.1, 20, 4, 0.9, 1e-2, 0.03

    def __init__(self, trainer: Trainer, x: Tensor):
        super().__init__(trainer, x)
        self.begin = int(self.BEGIN * trainer.settings.n_steps)
        self.layers = [*self.encoder, *self.decoder]
        self.factors: dict[Layer, list[Tensor]] = {}
        self.inverses: dict[Layer, list[Tensor]] = {}
        self.momentum = {layer: torch.zeros_like(self.gradient(layer)) for layer in self.layers}
        self.estimates = self.steps = 0
        self.sigma2 = torch.tensor([member.sigma2 for member in trainer.members])

    def before(self, step: int) -> None:
        if step < self.begin or (step % self.EVERY and self.estimates >= self.ESTIMATES):
            return
        sigma2 = self.sigma2 * self.trainer.settings.sigma2_factor_at(step)
        rows = self.x[torch.randint(len(self.x), (256,))].expand(len(sigma2), -1, -1)
        inputs, active, encoded = self._forward(self.encoder, rows)
        mu, logvar = encoded.chunk(2, -1)
        deviation = (0.5 * logvar.clamp(*LOGVAR_RANGE)).exp()
        of_mu, of_logvar = torch.randn(mu.shape) / deviation, torch.randn(mu.shape) * 0.5**0.5
        drawn = self._forward(self.decoder, mu + deviation * torch.randn(mu.shape))
        keep = min(self.MEMORY, self.estimates / (self.estimates + 1))
        self._add(self.encoder, inputs, active, torch.cat((of_mu, of_logvar), -1), keep)
        self._add(self.decoder, drawn[0], drawn[1], torch.randn(drawn[2].shape) / sigma2[:, None, None].sqrt(), keep)
        self.estimates += 1
        if self.estimates >= self.ESTIMATES and self.estimates % 2 == 0:
            self.inverses = {layer: [_inverse(f, self.DAMPING) for f in self.factors[layer]] for layer in self.layers}

    def _forward(self, layers: list[Layer], h: Tensor) -> tuple[list[Tensor], list[Tensor], Tensor]:
        """Return the inputs of each layer with a column of ones, where its outputs are positive, and the last ones."""
        inputs, active = [], []
        for layer in layers:
            inputs.append(torch.cat((h, h.new_ones(*h.shape[:-1], 1)), -1))
            h = inputs[-1] @ layer_of(self.trainer.model.parameters, layer)
            active.append(h > 0)
            if layer is not layers[-1]:
                h = h.relu()
        return inputs, active, h

    def _add(self, layers: list[Layer], inputs: list[Tensor], active: list[Tensor], score: Tensor, keep: float) -> None:
        """Add an estimate to the factors of a network, from draws of the score of its outputs [M, R, out]."""
        for place in reversed(range(len(layers))):
            layer = layers[place]
            new = [part.mT @ part / part.shape[1] for part in (inputs[place], score)]
            old = self.factors.get(layer, new)
            self.factors[layer] = [torch.lerp(b, a, keep) for a, b in zip(old, new, strict=True)]
            if place:
                score = (score @ layer_of(self.trainer.model.parameters, layer)[:, :-1].mT) * active[place - 1]

    def changes(self, step: int) -> dict[Layer, Tensor]:
        if not self.inverses:
            return {}
        self.steps += 1
        gradients = {layer: self.gradient(layer) for layer in self.layers}
        natural = {layer: left @ gradients[layer] @ right for layer, (left, right) in self.inverses.items()}
        gain = sum((natural[layer] * gradients[layer]).sum((1, 2)) for layer in self.layers)
        within = (self.LARGEST / (self.RATE**2 * gain + 1e-30)).sqrt().clamp(max=1)[:, None, None]
        bias = 1 - self.MOMENTUM**self.steps
        for layer in self.layers:
            self.momentum[layer].lerp_(within * natural[layer], 1 - self.MOMENTUM)
        return {layer: -self.RATE / bias * self.momentum[layer] for layer in self.layers}


class KfacLast(Kfac):
    """K-FAC for the last layer of each network."""

    def __init__(self, trainer: Trainer, x: Tensor):
        super().__init__(trainer, x)
        self.layers = [self.encoder[-1], self.decoder[-1]]


class KfacLatents(Kfac):
    """K-FAC for the last layer of the encoder and the first of the decoder."""

    def __init__(self, trainer: Trainer, x: Tensor):
        super().__init__(trainer, x)
        self.layers = self.at_latents


def _inverse(factor: Tensor, damping: float) -> Tensor:
    """The inverse of factors [M, n, n] after this part of their mean eigenvalue was added to all eigenvalues."""
    mean = factor.diagonal(dim1=-2, dim2=-1).mean(-1)[:, None, None]
    return torch.cholesky_inverse(torch.linalg.cholesky(factor + damping * mean * torch.eye(factor.shape[-1])))


def _after_annealing(settings: Settings, step: int) -> float:
    """How much of the training after the annealed part is done, from 0 to 1."""
    return max(0.0, (step / settings.n_steps - settings.anneal_fraction) / (1 - settings.anneal_fraction))


SCHEDULES: dict[str, Callable[[Settings, int], float]] = {
    "cosine": lambda settings, step: cosine(step / settings.n_steps),
    "linear": lambda settings, step: 1 - step / settings.n_steps,
    "quadratic": lambda settings, step: (1 - step / settings.n_steps) ** 2,
    "held-half": lambda settings, step: min(1.0, 2 * (1 - step / settings.n_steps)),
    "held-anneal": lambda settings, step: cosine(_after_annealing(settings, step)),
    "root-anneal": lambda settings, step: 1 - math.sqrt(_after_annealing(settings, step)),
}
"""Learning rates of a step relative to the largest, without the rise at the beginning."""


def settings_with(schedule: str, **keys: object) -> Settings:
    """Settings of the given keys whose learning rate follows one of SCHEDULES."""

    class Scheduled(Settings):
        def learning_rate_at(self, step: int) -> float:
            return self.learning_rate * self.rise_at(step) * SCHEDULES[schedule](self, step)

    return Scheduled(**keys)


UPDATES: dict[str, Callable[[Trainer, Tensor], Update]] = {
    "adam": Update,
    "scaled": Scaled,
    "muon": Muon,
    "soap": Soap,
    "kfac-last": KfacLast,
    "kfac-latent": KfacLatents,
    "kfac": Kfac,
    "fast-latent": FastLatents,
    "slow-latent": SlowLatents,
}


def train(name: str, run: common.Run, problem: common.Problem) -> tuple[float, float]:
    """Train the models of a run with an update; return the RMS error of KL in nats and the processor seconds."""
    torch.manual_seed(run.seed)
    x = torch.from_numpy(run.x)
    trainer = Trainer(x, [Member(sigma2, 1.0, run.seed) for sigma2 in run.sigma2], run.settings)
    update = UPDATES[name](trainer, x)
    begin = time.process_time()
    for _ in range(run.settings.n_steps):
        update.step()
    seconds = time.process_time() - begin
    kl = course.kl_per_dim(trainer.model.parameters.numpy(), run)
    return course.errors(kl, run.sigma2, compute_spectrum(run.x), problem.n_latent)["kl_rms"], seconds


def main(words: list[str] | None = None) -> None:
    """Run the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("--updates", type=some_of(UPDATES), default=",".join(UPDATES), help=f"of: {', '.join(UPDATES)}")
    some = f"of: {', '.join(SCHEDULES)}"
    parser.add_argument("--schedules", type=some_of(SCHEDULES), default="cosine", help=some)
    parser.add_argument("--set", choices=common.PROBLEMS, default="cascade", help="the data")
    parser.add_argument("--samples", type=numbers(), default="1e5", help="budgets of samples a model")
    parser.add_argument("--seeds", type=numbers(int), default="0,1", help="whole numbers, with commas between")
    parser.add_argument("--batch", type=int, default=256, help="samples a step")
    parser.add_argument("--rows", type=int, default=256_000, help="samples in the data set")
    arguments = parser.parse_args(words)
    problem = common.PROBLEMS[arguments.set]
    x = common.make_data(problem, arguments.rows)
    torch.set_num_threads(1)
    lines = []
    for name, schedule, samples in itertools.product(arguments.updates, arguments.schedules, arguments.samples):
        keys = {"n_latent": problem.n_latent, "hidden": common.HIDDEN, "samples": samples, "batch": arguments.batch}
        settings = settings_with(schedule, **keys)
        runs = [common.Run(x, problem.sigma2, seed, settings, 1) for seed in arguments.seeds]
        rms, seconds = np.transpose([train(name, run, problem) for run in runs])
        errors = f"{np.median(rms):.4f}", " ".join(f"{value:.4f}" for value in rms)
        lines.append((name, schedule, f"{samples:g}", *errors, f"{seconds.mean():.1f}"))
        print(*lines[-1], flush=True)
    columns = ("update", "schedule", "samples", "RMS of KL", "each seed", "seconds")
    print(*markdown_table(columns, lines), sep="\n")


if __name__ == "__main__":
    main()
