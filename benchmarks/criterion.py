"""Does the criterion hold for any loss? Train plain PyTorch VAEs at 0.8 and 1.25 times the predicted weight of KL.

    python benchmarks/criterion.py                    # docs/research/criterion.csv, and its table in criterion.md
    python benchmarks/criterion.py --only L1,huber    # the same; other cases keep their rows
    python benchmarks/criterion.py --only L1 --steps 500 --seeds 0 --output quick.csv

takes twenty minutes; with one case, one seed and 500 steps some seconds. `criterion_cases.py` has the losses, as
users write them, and the data. `phasevae.predict` differentiates the loss; the training in `own_loss_vae.py` knows
nothing of it. In the first half of a training the weight of KL rises from a tenth of the critical one to its target.
The exit code is 1 if a run is not as predicted.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from criterion_cases import CASES, Case
from gallery_vae import BATCH, measured
from own_loss_vae import trained
from predictions import ABOVE, ALIVE, BELOW, DEAD
from shared import ROOT, make_parser, markdown_table, numbers, some_of, write_tables

from phasevae import predict
from phasevae.artifacts.tables import read_table, write_table
from phasevae.theory.ppca import ACTIVE_KL

TABLE, PAGE = (ROOT / "docs" / "research" / name for name in ("criterion.csv", "criterion.md"))


def critical_factor(case: Case) -> float:
    """Return the factor on the KL term, as the loss has it, at which `predict` expects collapse."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        prediction = predict(
            case.samples(), case.n_latent, loss=case.loss, batch_size=BATCH, output_shape=case.output_shape
        )
    return prediction.critical_kl_weight


def runs(case: Case, steps: int, seeds: list[int]) -> Iterator[dict[str, Any]]:
    """Train a case below and above the predicted weight; yield the rows of the table and print them.

    Parameters
    ----------
    case : the loss and its data
    steps : number of training steps
    seeds : seeds of the networks, the batches and the noise
    """
    x = torch.from_numpy(case.samples())
    critical = critical_factor(case)
    for ratio in (BELOW, ABOVE):
        for seed in seeds:
            start = time.perf_counter()
            model = trained(
                x, case.loss, case.n_latent, ratio * critical, critical, steps, seed, output_shape=case.output_shape
            )
            kl_per_dim = measured(model, x)
            kl = float(kl_per_dim.sum())
            row = {
                "case": case.name,
                "seed": seed,
                "ratio": ratio,
                "critical_factor": critical,
                "kl": kl,
                "active": int((kl_per_dim > ACTIVE_KL).sum()),
                "n_latent": case.n_latent,
                "steps": steps,
                "as_predicted": kl < DEAD if ratio > 1 else kl > ALIVE,
            }
            verdict = "ok" if row["as_predicted"] else "NOT AS PREDICTED"
            print(
                f"{case.name:24} seed {seed} at {ratio:<4} of {critical:<8.4g} KL {kl:<9.3g} active {row['active']} "
                f"{verdict} {time.perf_counter() - start:.0f} s",
                flush=True,
            )
            yield row


def markdown(rows: pd.DataFrame) -> str:
    """Rows as the table of docs/research/criterion.md: KL from the least to the largest of the seeds."""
    header = ("loss", "critical factor on KL", f"KL at {BELOW}", f"KL at {ABOVE}")
    cells = []
    for name, of_case in rows.groupby("case", sort=False):
        spans = []
        for ratio in (BELOW, ABOVE):
            kl = of_case.loc[of_case["ratio"] == ratio, "kl"]
            spans.append(f"{kl.min():.2g} to {kl.max():.2g}")
        cells.append((name, f"{of_case['critical_factor'].iloc[0]:.4g}", *spans))
    return "\n".join(markdown_table(header, cells))


def write(rows: pd.DataFrame, path: Path) -> None:
    """Write the rows as a CSV file in the order of the cases; those of criterion.csv also into the page."""
    rows = rows.sort_values("case", key=lambda names: names.map(list(CASES).index), kind="stable")
    write_table(path, rows)
    if path == TABLE:
        write_tables(PAGE, {"losses": markdown(rows)})


def main() -> None:
    """Run the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("--output", type=Path, default=TABLE, help="CSV file (default: docs/research/criterion.csv)")
    parser.add_argument("--only", type=some_of(CASES), default=list(CASES), help="names of cases, with commas between")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--seeds", type=numbers(int), default=[0, 1, 2])
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = pd.DataFrame()
    if options.output.is_file():
        rows = read_table(options.output)
        rows = rows[~rows["case"].isin(options.only)]
    wrong = 0
    for name in options.only:
        new = pd.DataFrame(runs(CASES[name], options.steps, options.seeds))
        wrong += int((~new["as_predicted"]).sum())
        rows = pd.concat([rows, new], ignore_index=True)
        write(rows, options.output)
    sys.exit(f"{wrong} runs are not as predicted" if wrong else 0)


if __name__ == "__main__":
    main()
