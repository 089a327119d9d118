"""Do networks do what `phasevae predict` says? Train plain PyTorch VAEs, and pythae's where it is installed, at 0.8 and
1.25 times the predicted critical weight of KL, and at the weights of public threads, and compare.

Losses are written here as users write them, not by phasevae's conventions. A run raises the weight of KL from 0.3 of
the critical one to its target during the first half of the training, so that it reaches it from the active side.

    python benchmarks/predictions.py                       # docs/gallery.csv and the tables of docs/gallery.md
    python benchmarks/predictions.py --only mean-se,pythae # the same, of these cases anew
    python benchmarks/predictions.py --only mean-se --steps 500 --output quick.csv
    python benchmarks/predictions.py --data .              # digits.npy, pixels.npy, binary.npy, cells.npy
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import re
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gallery_vae import measured, trained, trained_by_pythae

from phasevae import predict
from phasevae.artifacts.files import replacing
from phasevae.theory.ppca import ACTIVE_KL

GALLERY, PAGE = (Path(__file__).parents[1] / "docs" / name for name in ("gallery.csv", "gallery.md"))
BELOW, ABOVE = 0.8, 1.25
ALIVE, DEAD = 0.01, 0.001
"""KL in nats per sample that a run below and above the critical weight must stay above and below."""


@dataclass(frozen=True)
class Case:
    """A loss on data, with the options of `predict` that stand for it."""

    name: str
    data: str
    n_latent: int
    loss: str
    options: dict[str, Any]
    thread: str = ""
    weights: tuple[float, ...] = field(default=())  # of the thread, beside 0.8 and 1.25 of the critical one


MEANS = "mean-se-mean-kl"
THREADS = (
    Case("kld_weight", "pixels", 8, "mean-se", {"library": "pytorch-vae"}, "AntixK/PyTorch-VAE#56", (1.0, 0.00025)),
    Case("zero KL", "binary", 8, "mean-bce", {"loss": "mean-bce"}, "YannDubs/disentangling-vae#50", (1.0,)),
    Case("world model", "pixels", 8, MEANS, {"loss": MEANS}, "AppliedDataSciencePartners/WorldModels#12", (0.1,)),
    Case("low beta", "digits", 2, "mean-se", {"library": "mlcolvar"}, "luigibonati/mlcolvar#188", (1.0, 0.001)),
    Case("how many latents", "cells", 8, "scvi", {"library": "scvi"}, "scverse/scvi-tools#730", (1.0,)),
    Case("flat KL", "pixels", 8, "sse", {"library": "beta-vae"}, "1Konny/Beta-VAE#4", (4.0,)),
    Case("mean or sum", "digits", 8, MEANS, {"loss": MEANS}, "orybkin/sigma-vae-tensorflow#2", (1.0,)),
)
CONVENTIONS = (
    *(Case(name, "digits", 4, name, {"loss": name}) for name in ("half-sse", "sse", "mean-se", "mean-se-mean-kl")),
    Case("gaussian-nll", "digits", 4, "gaussian-nll", {"loss": "gaussian-nll"}),
    Case("bce", "binary", 4, "bce", {"loss": "bce"}),
    Case("mean-bce", "binary", 4, "mean-bce", {"loss": "mean-bce"}),
    Case("scvi", "cells", 4, "scvi", {"library": "scvi"}),
    Case("pythae", "digits", 4, "pythae", {"library": "pythae"}),
    Case("pythae-bce", "binary", 4, "pythae-bce", {"library": "pythae-bce"}),
)
CASES = (*CONVENTIONS, *THREADS)


def samples(name: str) -> np.ndarray:
    """digits: one scale for all pixels, mean variance 1; pixels: 0 to 1; binary: 0 or 1; cells: 24 standardised
    features of five factors, with noise of different strength."""
    from sklearn.datasets import load_digits

    x = load_digits().data / 16
    if name == "cells":
        rng = np.random.default_rng(0)
        factors, loadings = rng.normal(size=(2000, 5)), rng.normal(size=(5, 24)) * np.geomspace(1.2, 0.5, 5)[:, None]
        x = factors @ loadings + rng.normal(size=(2000, 24)) * rng.uniform(0.5, 1.5, 24)
        return ((x - x.mean(0)) / x.std(0)).astype(np.float32)
    if name == "digits":
        x = (x - x.mean(0)) / np.sqrt(x.var(0).mean())
    return (x >= 0.5 if name == "binary" else x).astype(np.float32)


def runs(case: Case, steps: int) -> Iterator[dict[str, Any]]:
    data = samples(case.data)
    x = torch.from_numpy(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        first = predict(data, case.n_latent, **case.options)
    critical = first.critical_kl_weight
    for weight in (BELOW * critical, ABOVE * critical, *case.weights):
        torch.manual_seed(0)
        found, start = first.at(weight), time.perf_counter()
        if case.loss.startswith("pythae"):
            model = trained_by_pythae(x, case.loss, case.n_latent, weight, critical, steps)
        else:
            model = trained(x, case.loss, case.n_latent, weight, critical, steps)
        per_dim = measured(model, x)
        total = float(per_dim.sum())
        alive = found.verdict != "collapsed"
        row = {
            "case": case.name,
            "thread": case.thread,
            "data": case.data,
            "n_latent": case.n_latent,
            "loss": case.loss,
            "critical_kl_weight": critical,
            "kl_weight": weight,
            "effective_variance": found.effective_variance,
            "critical_variance": found.critical_variance,
            "predicted_verdict": found.verdict,
            "predicted_active": found.active_dims,
            "active": int((per_dim > ACTIVE_KL).sum()),
            "predicted_kl": found.kl,
            "kl": total,
            "steps": steps,
            "as_predicted": total > ALIVE if alive else total < DEAD,
        }
        print(line(row), f"{time.perf_counter() - start:.0f} s", flush=True)
        yield row


def line(row: dict[str, Any]) -> str:
    told = "ok" if row["as_predicted"] else "NOT AS PREDICTED"
    return (
        f"{row['case']:16} weight {row['kl_weight']:<10.4g} {row['predicted_verdict']:9} KL {row['kl']:<10.3g} "
        f"({row['predicted_kl']:.3g}) active {row['active']} ({row['predicted_active']}) {told}"
    )


def markdown(rows: list[dict[str, Any]]) -> str:
    """Rows as a table of docs/gallery.md."""
    lines = [
        "| case | weight | effective / critical variance | predicted | KL | latents |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        ratio = float(row["effective_variance"]) / float(row["critical_variance"])
        latents = f"{row['active']} ({row['predicted_active']}) of {row['n_latent']}"
        kls = f"{float(row['kl']):.3g} ({float(row['predicted_kl']):.3g})"
        cells = row["case"], f"{float(row['kl_weight']):.4g}", f"{ratio:.3g}", row["predicted_verdict"], kls, latents
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def write_page(rows: list[dict[str, Any]], path: Path = PAGE) -> None:
    """Put the tables between the marks of the page."""
    page = path.read_text()
    sections = {"conventions": [row for row in rows if not row["thread"]]}
    sections |= {case.name: [row for row in rows if row["case"] == case.name] for case in THREADS}
    for name, found in sections.items():
        page = re.sub(
            rf"(<!-- {name} -->\n).*?(\n<!-- end -->)",
            lambda m, t=markdown(found): m[1] + "\n" + t + "\n" + m[2],
            page,
            flags=re.S,
        )
    with replacing(path) as temporary:
        temporary.write_text(page)


def read(path: Path) -> list[dict[str, Any]]:
    """Rows of a CSV file that `write` made; none where there is no file."""
    if not path.is_file():
        return []
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def write(rows: list[dict[str, Any]], path: Path) -> None:
    """The rows as a CSV file, in the order of the cases; those of docs/gallery.csv go to the page as well."""
    order = [case.name for case in CASES]
    rows = sorted(rows, key=lambda row: order.index(row["case"]))
    with replacing(path) as temporary, temporary.open("w", newline="") as stream:
        table = csv.DictWriter(stream, rows[0], lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    if path == GALLERY:
        write_page(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=GALLERY, help="CSV file to write (default: docs/gallery.csv)")
    parser.add_argument("--only", help="names of cases, with commas between; the file keeps its rows of others")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--data", type=Path, help="only write the data into this folder, as .npy files")
    options = parser.parse_args()
    if options.data:
        options.data.mkdir(parents=True, exist_ok=True)
        for name in dict.fromkeys(case.data for case in CASES):
            np.save(options.data / f"{name}.npy", samples(name))
        return
    torch.set_num_threads(1)
    names = options.only.split(",") if options.only else [case.name for case in CASES]
    if unknown := set(names) - {case.name for case in CASES}:
        parser.error(f"--only: {', '.join(sorted(unknown))}, must be among {', '.join(case.name for case in CASES)}")
    kept = [row for row in read(options.output) if row["case"] not in names] if options.only else []
    made: list[dict[str, Any]] = []
    for case in CASES:
        if case.name not in names:
            continue
        if case.loss.startswith("pythae") and importlib.util.find_spec("pythae") is None:
            print(f"{case.name}: skipped, pythae is not installed", file=sys.stderr)
            continue
        made += runs(case, options.steps)
        write([*kept, *made], options.output)
    wrong = sum(not row["as_predicted"] for row in made)
    sys.exit(f"{wrong} of {len(made)} runs are not as predicted" if wrong else 0)


if __name__ == "__main__":
    main()
