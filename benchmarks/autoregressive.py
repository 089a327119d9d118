"""Does a VAE with an autoregressive decoder collapse at KL weight 1? Train small ones on a hidden Markov chain.

    python benchmarks/autoregressive.py    # docs/research/autoregressive.csv and its tables in criterion.md
    python benchmarks/autoregressive.py --seeds 0 --weights 0.8,1.25 --steps 500 --output quick.csv

takes ten minutes. A decoder that predicts each symbol from the previous ones as well as anything can has scores whose
covariance equals their curvature, so the criterion says 1 for the weight of KL beside the cross entropy of a sequence.
First a recurrent decoder learns the chain without latents; its cross entropy is compared with the exact entropy, and
the criterion is evaluated over all constant inputs to its gates, as that is how a latent enters. Then a latent and an
encoder are added and both are trained, while the weight of KL rises from 0.3 to its target in the first quarter. The
exit code is 1 if a latent is dead at a weight of 0.9 or less, or lives at 1.1 or more.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from criterion_cases import LENGTH, SYMBOLS, kl, sequences, transitions
from gallery_vae import VAE, decaying, layers, raised
from predictions import ALIVE, DEAD
from shared import ROOT, make_parser, markdown_table, numbers, write_tables
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from phasevae.artifacts.tables import write_table

TABLE, PAGE = (ROOT / "docs" / "research" / name for name in ("autoregressive.csv", "criterion.md"))
HIDDEN, BATCH, RATE, N_TRAIN, N_TEST = 24, 128, 1e-2, 400_000, 20_000
WEIGHTS = (0.8, 0.9, 0.95, 1.05, 1.1, 1.25)
BELOW, ABOVE = 0.9, 1.1
"""A latent has to live up to the first weight, and to be dead from the second on."""


class Decoder(nn.Module):
    """A recurrent network that sees the latents beside the previous symbol, and gives logits of the next one."""

    def __init__(self, n_latent: int):
        super().__init__()
        self.body = nn.GRU(SYMBOLS + n_latent, HIDDEN, batch_first=True)
        self.out = nn.Linear(HIDDEN, SYMBOLS)

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        previous = F.pad(x[:, :-1], (0, 0, 1, 0))
        return self.out(self.body(torch.cat([previous, z[:, None].expand(-1, LENGTH, -1)], 2))[0])


def cross_entropy(logits: Tensor, x: Tensor) -> Tensor:
    """Cross entropy of each sequence [batch], in nats, summed over its symbols."""
    return -(F.log_softmax(logits, 2) * x).sum((1, 2))


def one_hot(symbols: np.ndarray) -> Tensor:
    """Symbols [n, length] as vectors [n, length, symbols]."""
    return F.one_hot(torch.from_numpy(symbols), SYMBOLS).float()


def surprisal(symbols: np.ndarray) -> np.ndarray:
    """Exact -ln p of each sequence [n], in nats, by the forward algorithm."""
    stay, emit = transitions()
    belief, total = np.full((len(symbols), len(stay)), 1 / len(stay)), np.zeros(len(symbols))
    for column in symbols.T:
        belief = belief * emit[:, column].T
        evidence = belief.sum(1)
        total -= np.log(evidence)
        belief = belief / evidence[:, None] @ stay
    return total


def without_latents(symbols: np.ndarray, steps: int, seed: int) -> Decoder:
    """Train a decoder whose latents are zero.

    Parameters
    ----------
    symbols : sequences [n, length]
    steps, seed : number of training steps; seed of the network and the batches
    """
    torch.manual_seed(seed)
    decoder, nothing = Decoder(1), torch.zeros(BATCH, 1)
    optimiser = torch.optim.Adam(decoder.parameters(), RATE)
    decay = decaying(optimiser, steps)
    for _ in range(steps):
        x = one_hot(symbols[np.asarray(torch.randint(len(symbols), (BATCH,)))])
        optimiser.zero_grad()
        cross_entropy(decoder(nothing, x), x).mean().backward()
        optimiser.step()
        decay.step()
    return decoder


def with_latent(decoder: Decoder, symbols: np.ndarray, weight: float, steps: int, seed: int) -> VAE:
    """Add an encoder and train both, while the weight of KL rises.

    Parameters
    ----------
    decoder : a trained one, which stays as it is
    symbols, steps, seed : as for `without_latents`
    weight : of KL at the end
    """
    torch.manual_seed(seed)
    model = VAE(nn.Sequential(nn.Flatten(), *layers(LENGTH * SYMBOLS, 2, nn.ReLU)), Decoder(1))
    model.decoder.load_state_dict(decoder.state_dict())
    optimiser = torch.optim.Adam(model.parameters(), RATE)
    decay = decaying(optimiser, steps)
    for step in range(steps):
        x = one_hot(symbols[np.asarray(torch.randint(len(symbols), (BATCH,)))])
        mu, logvar = model.encoder(x).chunk(2, -1)
        deviation = torch.exp(0.5 * logvar) * torch.randn_like(mu)
        # Noise of both signs: the decoder's gradient by a latent that carries nothing is otherwise noise alone, and
        # hides the slow decay near the threshold.
        logits = model.decoder(torch.cat([mu + deviation, mu - deviation]), torch.cat([x, x]))
        error = cross_entropy(logits, torch.cat([x, x])).mean()
        optimiser.zero_grad()
        (error + raised(2 * step / steps, weight, 1.0) * kl(mu, logvar).sum(1).mean()).backward()
        optimiser.step()
        decay.step()
    return model


def scores_and_curvature(decoder: Decoder, x: Tensor, chunk: int = 500) -> tuple[Tensor, Tensor]:
    """Differentiate -ln p by constant inputs to the decoder's gates, the directions in which a latent can move it.

    Parameters
    ----------
    decoder : a trained decoder
    x : one-hot sequences [n, length, symbols]
    chunk : sequences at a time

    Returns
    -------
    scores : tensor [n, m]
        Of each sequence, float64.
    curvature : tensor [m, m]
        Mean over the sequences of J^T (diag p - p p^T) J, J the derivatives of the logits by the inputs.
    """
    m = 3 * HIDDEN
    probe = Decoder(m).double()
    weights = decoder.state_dict()
    entering = torch.cat([weights["body.weight_ih_l0"][:, :SYMBOLS], torch.eye(m)], 1)
    probe.load_state_dict({**weights, "body.weight_ih_l0": entering})
    scores, curvature, step = [], torch.zeros(m, m, dtype=torch.float64), 1e-5
    for part in x.double().split(chunk):
        z = torch.zeros(len(part), m, dtype=torch.float64, requires_grad=True)
        logits = probe(z, part)
        (gradient,) = torch.autograd.grad(cross_entropy(logits, part).sum(), z)
        scores.append(-gradient)
        with torch.no_grad():
            moves = [(probe(z + step * unit, part) - logits) / step for unit in torch.eye(m, dtype=torch.float64)]
            derivatives, p = torch.stack(moves, -1), logits.softmax(2)[..., None]
            centred = (p.sqrt() * (derivatives - (p * derivatives).sum(2, keepdim=True))).flatten(0, 2)
            curvature += centred.T @ centred
    return torch.cat(scores), curvature / len(x)


def criterion_of_directions(decoder: Decoder, x: Tensor) -> dict[str, float]:
    """Return the largest eigenvalue of H^-1 G over the directions in which a latent can move the decoder.

    The direction comes from one half of the sequences. The other half gives the value, which chance cannot raise.

    Parameters
    ----------
    decoder, x : as for `scores_and_curvature`
    """
    one, other = (scores_and_curvature(decoder, half) for half in x.chunk(2))
    scale, axes = torch.linalg.eigh(one[1])
    kept = scale > 1e-4 * scale.max()  # the rest hardly moves the logits
    whitening = axes[:, kept] / scale[kept].sqrt()
    values, vectors = torch.linalg.eigh(whitening.T @ (one[0].T @ one[0] / len(one[0])) @ whitening)
    direction = whitening @ vectors[:, -1]
    squares = (other[0] @ direction).square() / (direction @ other[1] @ direction)
    return {
        "directions": int(kept.sum()),
        "same_half": values[-1].item(),
        "other_half": squares.mean().item(),
        "standard_error": (squares.std() / len(squares) ** 0.5).item(),
    }


def runs(steps: int, seeds: list[int], weights: list[float]) -> Iterator[dict[str, Any]]:
    """Train decoders, and VAEs at each weight; yield the rows of the table and print them.

    Parameters
    ----------
    steps : number of steps of each training
    seeds : seeds of the networks, the batches and the noise
    weights : weights of KL
    """
    symbols, unseen = sequences(N_TRAIN, 1), sequences(N_TEST, 2)
    x, entropy = one_hot(unseen), surprisal(unseen).mean()
    for seed in seeds:
        decoder = without_latents(symbols, steps, seed)
        with torch.no_grad():
            alone = cross_entropy(decoder(torch.zeros(len(x), 1), x), x).mean().item()
        about = {"seed": seed, "steps": steps, "excess": float(alone - entropy), **criterion_of_directions(decoder, x)}
        print(about, flush=True)
        for weight in weights:
            start = time.perf_counter()
            model = with_latent(decoder, symbols, weight, steps, seed)
            with torch.no_grad():
                mu, logvar = model.encoder(x).chunk(2, -1)
                z = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)
                gain = alone - cross_entropy(model.decoder(z, x), x).mean().item()
            divergence = kl(mu, logvar).sum(1).mean().item()
            row = {**about, "kl_weight": weight, "kl": divergence, "gain": gain, "as_predicted": None}
            if weight <= BELOW or weight >= ABOVE:
                row["as_predicted"] = divergence > ALIVE if weight <= BELOW else divergence < DEAD
            print(
                f"seed {seed} weight {weight:<5} KL {divergence:<9.3g} gain {gain:<9.3g} {row['as_predicted']} "
                f"{time.perf_counter() - start:.0f} s",
                flush=True,
            )
            yield row


def markdown(rows: pd.DataFrame) -> dict[str, str]:
    """Rows as the two tables of docs/research/criterion.md, by name."""
    first = rows.drop_duplicates("seed")
    directions = [
        (row.seed, f"{row.excess:.4f}", row.directions, f"{row.other_half:.3f} ± {row.standard_error:.3f}")
        for row in first.itertuples()
    ]
    trainings = [
        (weight, *(", ".join(f"{value:.2g}" for value in at[key]) for key in ("kl", "gain")))
        for weight, at in rows.groupby("kl_weight")
    ]
    header = ("seed", "excess of the cross entropy", "directions", "largest eigenvalue")
    return {
        "directions": "\n".join(markdown_table(header, directions)),
        "autoregressive": "\n".join(markdown_table(("weight", "KL", "gain of cross entropy"), trainings)),
    }


def main() -> None:
    """Run the command line."""
    parser = make_parser(__doc__)
    parser.add_argument(
        "--output", type=Path, default=TABLE, help="CSV file (default: docs/research/autoregressive.csv)"
    )
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--seeds", type=numbers(int), default=[0, 1, 2])
    parser.add_argument("--weights", type=numbers(), default=list(WEIGHTS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    trained = list(runs(options.steps, options.seeds, options.weights))
    rows = pd.DataFrame(trained)
    write_table(options.output, rows)
    if options.output == TABLE:
        write_tables(PAGE, markdown(rows))
    wrong = sum(row["as_predicted"] is False for row in trained)
    sys.exit(f"{wrong} runs are not as predicted" if wrong else 0)


if __name__ == "__main__":
    main()
