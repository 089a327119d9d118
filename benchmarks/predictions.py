"""Do networks do what `phasevae predict` says? Train plain PyTorch VAEs, and pythae's if it is installed, and compare.

    python benchmarks/predictions.py                       # docs/guide/gallery.csv, and the tables of gallery.md
    python benchmarks/predictions.py --only mean-se,pythae # the same; other cases keep their rows
    python benchmarks/predictions.py --only mean-se --steps 500 --output quick.csv
    python benchmarks/predictions.py --data .              # digits.npy, pixels.npy, ...

takes half an hour; with one case and 500 steps some seconds. Each case is trained at 0.8 and 1.25 times the predicted
critical weight of KL, and at the weights of public threads. The losses are written as users write them, without
phasevae's conventions; those of gallery_losses/ are files that `phasevae predict --loss-function` reads, and their
weights are factors of the KL term. In the first half of a training the weight of KL rises from a fraction of the
critical weight (0.3, for the files 0.1) to its target, so that the model reaches it from the active side. The exit code
is 1 if a run is not as predicted.
"""

from __future__ import annotations

import importlib.util
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from gallery_data import DATA, SYMBOLS, samples
from gallery_vae import BATCH, measured, trained, trained_by_pythae
from own_loss_vae import trained as trained_with
from shared import ROOT, make_parser, markdown_table, some_of, write_tables

from phasevae import predict
from phasevae.artifacts.tables import read_table, write_table
from phasevae.prediction.own_loss.function import load_function
from phasevae.theory.ppca import ACTIVE_KL

GALLERY, PAGE = (ROOT / "docs" / "guide" / name for name in ("gallery.csv", "gallery.md"))
OWN = ROOT / "benchmarks" / "gallery_losses"
BELOW, ABOVE = 0.8, 1.25
ALIVE, DEAD = 0.01, 0.001
"""KL in nats per sample: a run below the critical weight stays above the first, a run above it below the second."""


@dataclass(frozen=True)
class Case:
    """A loss on data: a key of `gallery_vae.LOSSES`, or a file of gallery_losses/ with a function `loss`.

    options: those of `predict` that describe the loss; for a file its batch size and the shape of its outputs.
    weights: those of the public thread, in addition to 0.8 and 1.25 times the critical weight.
    """

    name: str
    data: str
    n_latent: int
    loss: str
    options: dict[str, Any]
    thread: str = ""
    weights: tuple[float, ...] = ()

    @property
    def is_file(self) -> bool:
        return self.loss.endswith(".py")


MEANS = "mean-se-mean-kl"
TOKENS = {"output_shape": (12, SYMBOLS)}
THREADS = (
    Case("kld_weight", "pixels", 8, "mean-se", {"library": "pytorch-vae"}, "AntixK/PyTorch-VAE#56", (1.0, 0.00025)),
    Case("zero KL", "binary", 8, "mean-bce", {"loss": "mean-bce"}, "YannDubs/disentangling-vae#50", (1.0,)),
    Case("world model", "pixels", 8, MEANS, {"loss": MEANS}, "AppliedDataSciencePartners/WorldModels#12", (0.1,)),
    Case("low beta", "digits", 2, "mean-se", {"library": "mlcolvar"}, "luigibonati/mlcolvar#188", (1.0, 0.001)),
    Case("how many latents", "cells", 8, "scvi-normal", {"library": "scvi-normal"}, "scverse/scvi-tools#730", (1.0,)),
    Case("flat KL", "pixels", 8, "sse", {"library": "beta-vae"}, "1Konny/Beta-VAE#4", (4.0,)),
    Case("mean or sum", "digits", 8, MEANS, {"loss": MEANS}, "orybkin/sigma-vae-tensorflow#2", (1.0,)),
    Case("batch sum", "pixels", 8, "mmvae.py", {"batch_size": BATCH}, "zdebruine/MMVAE#19", (1.0,)),
    Case("factor of 79", "tokens", 8, "rvae.py", TOKENS, "kefirski/pytorch_RVAE#11", (1.0, 1 / 79)),
    Case("robot", "curves", 8, "act.py", {}, "tonyzhaozh/act#55", (1.0,)),
    Case("weight of 1000", "curves", 8, "audioldm.py", {}, "haoheliu/AudioLDM2#90", (1.0, 32 / 65536)),
    Case("mean KL", "binary", 8, "keras_io.py", {}, "keras-team/keras-io#270", (1.0, 8.0)),
    Case("warm-up", "counts", 8, "scvi_tools.py", {}, "scverse/scvi-tools#1569", (1.0, 0.8)),
    Case("annealing", "clicks", 8, "mult_vae.py", {}, "younggyoseo/vae-cf-pytorch#6", (1.0, 5.0)),
    Case("motion", "curves", 8, "actor.py", {"batch_size": 20}, "Mathux/ACTOR#5", (1.0, 1e5)),
    Case("rising KL", "curves", 8, "dart.py", {}, "zkf1997/DART#22", (1.0,)),
    Case("perceptual", "curves", 8, "dfc_vae.py", {}, "yzwxx/vae-celebA#4", (1.0,)),
)
CONVENTIONS = (
    *(Case(name, "digits", 4, name, {"loss": name}) for name in ("half-sse", "sse", "mean-se", "mean-se-mean-kl")),
    Case("gaussian-nll", "digits", 4, "gaussian-nll", {"loss": "gaussian-nll"}),
    Case("bce", "binary", 4, "bce", {"loss": "bce"}),
    Case("mean-bce", "binary", 4, "mean-bce", {"loss": "mean-bce"}),
    Case("scvi-normal", "cells", 4, "scvi-normal", {"library": "scvi-normal"}),
    Case("pythae", "digits", 4, "pythae", {"library": "pythae"}),
    Case("pythae-bce", "binary", 4, "pythae-bce", {"library": "pythae-bce"}),
)
CASES = {case.name: case for case in (*CONVENTIONS, *THREADS)}


def runs(case: Case, steps: int) -> Iterator[dict[str, Any]]:
    """Train a case at each of its weights; yield the rows of the table and print them."""
    data = samples(case.data)
    x = torch.from_numpy(data)
    own = {"loss": load_function(f"{OWN / case.loss}:loss")} if case.is_file else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        prediction = predict(data, case.n_latent, **own, **case.options)
    critical = prediction.critical_kl_weight
    for weight in (BELOW * critical, ABOVE * critical, *case.weights):
        predicted, start = prediction.at(weight), time.perf_counter()
        kl_per_dim = measured(model_of(case, x, weight, critical, steps), x.float())
        kl = float(kl_per_dim.sum())
        row = {
            "case": case.name,
            "thread": case.thread,
            "data": case.data,
            "n_latent": case.n_latent,
            "loss": case.loss,
            "critical_kl_weight": critical,
            "kl_weight": weight,
            "effective_variance": predicted.effective_variance,
            "critical_variance": predicted.critical_variance,
            "predicted_verdict": predicted.verdict,
            "predicted_active": predicted.active_dims,
            "active": int((kl_per_dim > ACTIVE_KL).sum()),
            "predicted_kl": predicted.kl,
            "kl": kl,
            "steps": steps,
            "as_predicted": kl < DEAD if predicted.verdict == "collapsed" else kl > ALIVE,
        }
        print(line(row), f"{time.perf_counter() - start:.0f} s", flush=True)
        yield row


def model_of(case: Case, x: torch.Tensor, weight: float, critical: float, steps: int) -> torch.nn.Module:
    """Return a model that is trained on x with the loss of a case and a weight of KL."""
    if case.is_file:
        loss, options = load_function(f"{OWN / case.loss}:loss"), case.options
        shape, batch = options.get("output_shape"), options.get("batch_size", BATCH)
        return trained_with(x, loss, case.n_latent, weight, critical, steps, 0, output_shape=shape, batch=batch)
    torch.manual_seed(0)
    train = trained_by_pythae if case.loss.startswith("pythae") else trained
    return train(x, case.loss, case.n_latent, weight, critical, steps)


def line(row: dict[str, Any]) -> str:
    """A row as printed."""
    verdict = "ok" if row["as_predicted"] else "NOT AS PREDICTED"
    return (
        f"{row['case']:16} weight {row['kl_weight']:<10.4g} {row['predicted_verdict']:9} KL {row['kl']:<10.3g} "
        f"({row['predicted_kl']:.3g}) active {row['active']} ({row['predicted_active']}) {verdict}"
    )


def markdown(rows: pd.DataFrame) -> str:
    """Rows as a table of docs/guide/gallery.md."""
    header = ("case", "weight", "effective / critical variance", "predicted", "KL", "latents")
    cells = [
        (
            row.case,
            f"{row.kl_weight:.4g}",
            f"{row.effective_variance / row.critical_variance:.3g}",
            row.predicted_verdict,
            f"{row.kl:.3g} ({row.predicted_kl:.3g})",
            f"{row.active} ({row.predicted_active}) of {row.n_latent}",
        )
        for row in rows.itertuples()
    ]
    return "\n".join(markdown_table(header, cells))


def write_page(rows: pd.DataFrame, path: Path = PAGE) -> None:
    """Replace the tables between the marks of the page."""
    sections = {"losses": rows["thread"] == ""} | {case.name: rows["case"] == case.name for case in THREADS}
    write_tables(path, {name: markdown(rows[chosen]) for name, chosen in sections.items()})


def write(rows: pd.DataFrame, path: Path) -> None:
    """Write the rows as a CSV file in the order of the cases; those of docs/guide/gallery.csv also into the page."""
    rows = rows.sort_values("case", key=lambda names: names.map(list(CASES).index), kind="stable")
    write_table(path, rows)
    if path == GALLERY:
        write_page(rows)


def main() -> None:
    """Run the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("--output", type=Path, default=GALLERY, help="CSV file (default: docs/guide/gallery.csv)")
    parser.add_argument("--only", type=some_of(CASES), help="names of cases, with commas between")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--data", type=Path, help="only write the data into this folder, as .npy files")
    options = parser.parse_args()
    if options.data:
        options.data.mkdir(parents=True, exist_ok=True)
        for name in DATA:
            np.save(options.data / f"{name}.npy", samples(name))
        return
    torch.set_num_threads(1)
    rows = pd.DataFrame()
    if options.only and options.output.is_file():
        rows = read_table(options.output)
        rows["thread"] = rows["thread"].astype(object).fillna("")
        rows = rows[~rows["case"].isin(options.only)]
    outcomes: list[bool] = []
    for case in CASES.values():
        if options.only and case.name not in options.only:
            continue
        if case.loss.startswith("pythae") and importlib.util.find_spec("pythae") is None:
            print(f"{case.name}: skipped, pythae is not installed", file=sys.stderr)
            continue
        new = list(runs(case, options.steps))
        outcomes += [row["as_predicted"] for row in new]
        rows = pd.concat([rows, pd.DataFrame(new)], ignore_index=True)
        write(rows, options.output)
    wrong = outcomes.count(False)
    sys.exit(f"{wrong} of {len(outcomes)} runs are not as predicted" if wrong else 0)


if __name__ == "__main__":
    main()
