"""Does damage go unnoticed? Damage the files of a small finished sweep and run every command that reads them.

    python benchmarks/damage.py                      1,000 kinds of damage, about half an hour
    python benchmarks/damage.py --mutations 100      fewer of them

Two kinds of damage are done. Accidents: bits that flip, and files that are cut, emptied or joined. Afterwards a command
must refuse the file in one line, or give the same result as before. Edits, as by another program: text, infinities,
empty cells, huge and negative numbers, missing columns, keys and arrays, rows given twice. Digests are made to fit.
Afterwards a command must refuse the file in one line, or read it. In no case may it end with a traceback. The script
prints the counts and every fault, and ends with exit code 1 if there is any.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import os
import random
import shutil
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from shared import make_parser

from phasevae.artifacts.files import SEAL, file_sha256, read_json, write_json
from phasevae.artifacts.tables import metadata_path, write_table
from phasevae.artifacts.tensors import read_tensors, write_tensors
from phasevae.theory.ppca import collapsed_elbo, ppca_active_dims, ppca_elbo, ppca_kl, ppca_latent_variance

SETTINGS = json.dumps(
    {"n_latent": 2, "hidden": [4], "samples": 6400, "batch": 64, "learning_rate": 0.05}
    | {"sigma2": [2.0, 40.0], "seeds": [0], "n_buckets": 1}
)
EXACT = json.dumps({"n_latent": 2, "sigma2": [0.5, 1.1]})
FINISH = (
    "dataset synthetic --eigenvalues 4,2,1 --n-samples 120 -o set",
    "spectrum set -o set/spectrum.json",
    f"plan --settings '{SETTINGS}' -o set/plan.csv",
    f"train set --plan set/plan.csv --settings '{SETTINGS}' --device cpu --threads 1 -o set",
    f"collect --plan set/plan.csv --settings '{SETTINGS}' -o set/sweep.csv --timing set/timing.csv",
    "moments set --shard 1/2 -o first/1.safetensors",
    "moments set --shard 2/2 -o first/2.safetensors",
    "spectrum first/1.safetensors first/2.safetensors --moments --basis basis.safetensors -o moments.json",
    "moments set --shard 1/2 --basis basis.safetensors -o second/1.safetensors",
    "moments set --shard 2/2 --basis basis.safetensors -o second/2.safetensors",
    "manifest set",
)
"""Commands that make a small sweep."""

EXACT_FIT = (
    "fit exact/sweep.csv --spectrum exact/spectrum.json --dimensions exact/dimensions.csv"
    " --histories exact/histories.csv --hysteresis exact/hysteresis.csv -o {out}.json"
)
EXACT_BRACKET = (
    "bracket exact/sweep.csv exact/second.csv --spectrum exact/spectrum.json -o {out}.csv --summary {out}.json"
)
COLLECT = "collect set/points -o {out}.csv --dimensions {out}d.csv --timing {out}t.csv --histories {out}h.csv"
COLLECT_PLAN = f"collect --plan set/plan.csv --settings '{SETTINGS}' --data set -o {{out}}.csv"
TRAIN = f"train set --plan set/plan.csv --settings '{SETTINGS}' --device cpu --threads 1 -o set"
STABILITY = "stability set/points/sigma2=40.0,seed=0 set -o {out}.json"
VERIFY = "verify set"
PLOT = "plot {figure} --sweep exact/sweep.csv --dimensions exact/dimensions.csv --hysteresis exact/hysteresis.csv"
PLOT += " --fit exact/fit.json --spectrum exact/spectrum.json --bracketing exact/bracketing.csv"
PLOT += " --bracketing-summary exact/bracketing.json -o {{out}}"
SWEEP_FIGURES = tuple(PLOT.format(figure=name) for name in ("elbo", "kl", "kl_derivatives", "exponents"))
OF_FIT = tuple(PLOT.format(figure=name) for name in ("kl", "kl_derivatives", "exponents", "slowing", "cascade"))
FIRST_PASS = "spectrum first/1.safetensors first/2.safetensors --moments --basis {out}.safetensors -o {out}.json"
SECOND_PASS = "spectrum second/1.safetensors second/2.safetensors --moments -o {out}.json"
SHAPE = "moments set --shard 2/2 --basis basis.safetensors -o {out}.safetensors"
POINT = "set/points/sigma2=40.0,seed=0"
SPECTRUM = "spectrum set -o {out}.json"

READERS: dict[str, tuple[str, ...]] = {
    "exact/sweep.csv": (EXACT_FIT, EXACT_BRACKET, *SWEEP_FIGURES),
    "exact/dimensions.csv": (EXACT_FIT, PLOT.format(figure="latent_variance"), PLOT.format(figure="cascade")),
    "exact/histories.csv": (EXACT_FIT,),
    "exact/hysteresis.csv": (EXACT_FIT, PLOT.format(figure="hysteresis")),
    "exact/bracketing.csv": (PLOT.format(figure="bracketing"),),
    "exact/bracketing.json": (PLOT.format(figure="bracketing"),),
    "exact/fit.json": (*OF_FIT, f"refine exact/fit.json --settings '{EXACT}' -o {{out}}.csv"),
    "exact/spectrum.json": (
        EXACT_FIT,
        EXACT_BRACKET,
        PLOT.format(figure="spectrum"),
        PLOT.format(figure="soft_modes"),
        "predict exact/spectrum.json --loss half-sse --latent 2 --json",
    ),
    "set/sweep.csv": ("fit set/sweep.csv -o {out}.json", VERIFY),
    "set/sweep.csv-metadata.json": ("fit set/sweep.csv -o {out}.json", VERIFY),
    "set/plan.csv": (TRAIN, COLLECT_PLAN, VERIFY),
    "set/data.json": (SPECTRUM, STABILITY, TRAIN, COLLECT_PLAN, VERIFY),
    "set/data.npy": (SPECTRUM, STABILITY, TRAIN, VERIFY),
    "set/spectrum.json": (TRAIN, VERIFY),
    "set/manifest.json": (VERIFY,),
    f"{POINT}/point.json": (COLLECT, COLLECT_PLAN, STABILITY, TRAIN, VERIFY),
    f"{POINT}/history.csv": (COLLECT, TRAIN, VERIFY),
    f"{POINT}/timing.json": (COLLECT,),
    f"{POINT}/weights.safetensors": (STABILITY, TRAIN, VERIFY),
    "first/2.safetensors": (FIRST_PASS,),
    "second/2.safetensors": (SECOND_PASS,),
    "basis.safetensors": (SHAPE,),
}
"""Commands that read each file; {out} is where their results go."""

CELLS = ("text", "", "nan", "inf", "-inf", "1e99", "1e999", "-1", "0", "0.5", "True", "[1]", "9" * 30, "1e-300")
VALUES = (None, "text", "", [], [1], {}, {"a": None}, -1, 0, 0.5, 1e99, 1e300, 10**30, True)


class Outcome(NamedTuple):
    """How a command ended: its exit code, its lines on standard error and its output, and its traceback if any."""

    code: int
    errors: list[str]
    printed: str
    fault: str | None


class Damage(NamedTuple):
    """A damage of a file: what was done, and whether it was an accident, after which no result may differ."""

    what: str
    is_accident: bool


@contextlib.contextmanager
def coarse_figures() -> Iterator[None]:
    """Have figures drawn with few points and not written: the fonts of a PDF take more time than everything else."""
    from phasevae.figures.marks import STYLE

    def drawn(stem: Path, figure: Figure, provenance: object) -> tuple[()]:
        figure.savefig(io.BytesIO(), format="png")
        return ()

    with mock.patch.dict(STYLE, {"figure.dpi": 20}), mock.patch("phasevae.cli.analysis.write_figure", drawn):
        yield


def run(command: str, out: str = "out/result") -> Outcome:
    """Run a command of phasevae in this process."""
    import shlex

    from phasevae.cli import main

    arguments, errors, printed = sys.argv, io.StringIO(), io.StringIO()
    sys.argv = ["phasevae", *shlex.split(command.replace("{out}", out))]
    try:
        streams = contextlib.redirect_stderr(errors), contextlib.redirect_stdout(printed)
        with coarse_figures(), streams[0], streams[1], warnings.catch_warnings():
            main.main()
        return Outcome(0, errors.getvalue().splitlines(), printed.getvalue(), None)
    except SystemExit as end:
        return Outcome(int(end.code or 0), errors.getvalue().splitlines(), printed.getvalue(), None)
    except Exception:
        return Outcome(1, [], "", traceback.format_exc())
    finally:
        sys.argv = arguments


def finish(folder: Path) -> None:
    """Make the sweep in a folder: one that is trained, and the tables of one that follows the exact curves."""
    with contextlib.chdir(folder):
        for command in FINISH:
            outcome = run(command)
            if outcome.code:
                raise RuntimeError(f"{command}: {outcome.errors or outcome.fault}")
        write_exact(Path("exact"))
        for command, out in ((EXACT_FIT, "exact/fit"), (EXACT_BRACKET, "exact/bracketing")):
            outcome = run(command, out)
            if outcome.code:
                raise RuntimeError(f"{command}: {outcome.errors or outcome.fault}")
        for path in Path("exact").glob("*.csv"):
            metadata_path(path).unlink(missing_ok=True)


def write_exact(folder: Path) -> None:
    """Write the tables and the spectrum of a sweep that follows probabilistic PCA."""
    from dataclasses import replace

    from phasevae.spectrum.spectrum import assemble_spectrum
    from phasevae.spectrum.spectrum_files import write_spectrum

    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    values = np.array([1.0, 0.4, 0.1])
    known = assemble_spectrum(values, 1.5, 100_000, np.zeros(3), np.zeros(3), 1.0)
    write_spectrum(folder / "spectrum.json", replace(known, name="exact", data_sha256="0"))
    x = np.array([0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.94, 0.98, 1.02, 1.06, 1.1])
    kl, elbo = ppca_kl(values, x, 2), ppca_elbo(values, x, 2)
    collapsed = collapsed_elbo(1.5, 3, x)
    sweep = pd.DataFrame(
        {
            "sigma2": x,
            "beta": 1.0,
            "seed": 0,
            "elbo": elbo,
            "kl": kl + 1e-3 * rng.random(x.size),
            "mse": 2 * x * (collapsed_elbo(0.0, 3, x) - elbo - kl),
            "log_likelihood": elbo + 0.01,
            "log_likelihood_standard_error": 0.01,
            "collapsed_elbo": collapsed,
            "elbo_gap": elbo - collapsed,
            "elbo_gap_standard_error": 1e-3,
            "active_dims": ppca_active_dims(values, x, 2),
            "samples": 1000,
            "converged": True,
            "n_latent": 2,
            "schedule": "anneal",
            "backend": "torch",
            "data_sha256": "0",
        }
    )
    both = pd.concat([sweep, sweep.assign(seed=1, kl=kl)]).sort_values(["sigma2", "seed"])
    write_table(folder / "sweep.csv", both)
    write_table(folder / "second.csv", sweep.assign(seed=1000, schedule="scratch", kl=0.98 * kl))
    variance = ppca_latent_variance(values, x, 2)
    rows = [
        {"sigma2": value, "beta": 1.0, "seed": seed, "latent": latent}
        | {"kl": -0.5 * math.log(variance[i, latent]), "latent_variance": variance[i, latent]}
        | dict.fromkeys(("mean_variance", "mean_eigenvalue"), 1 - variance[i, latent])
        for i, value in enumerate(x)
        for seed in (0, 1)
        for latent in range(2)
    ]
    write_table(folder / "dimensions.csv", pd.DataFrame(rows))
    steps = np.arange(1, 31)
    courses = [
        pd.DataFrame({"sigma2": value, "beta": 1.0, "seed": 0, "step": steps, "learning_time": 0.1 * steps}).assign(
            current_sigma2=value, kl=end + 0.1 * np.exp(-0.1 * steps * abs(value - 1)), mse=1.0, elbo=-1.0
        )
        for value, end in zip(x, kl, strict=True)
    ]
    write_table(folder / "histories.csv", pd.concat(courses))
    upward = sweep[["sigma2", "beta", "seed", "elbo", "kl", "mse", "collapsed_elbo", "elbo_gap"]].assign(
        elbo_gap_standard_error=1e-3, active_dims=1, samples=1000, n_latent=2, backend="torch", data_sha256="0"
    )
    branches = [upward.assign(branch=name) for name in ("up", "fresh")]
    write_table(folder / "hysteresis.csv", pd.concat(branches))


# Damage


def accident(path: Path, rng: random.Random) -> str:
    """Damage the bytes of a file; return what was done."""
    content = bytearray(path.read_bytes())
    where = rng.randrange(len(content))
    what = rng.choice(("flip", "flip", "flip", "cut", "zeros", "twice", "empty"))
    if what == "flip":
        content[where] ^= 1 << rng.randrange(8)
    elif what == "cut":
        del content[where:]
    elif what == "zeros":
        content[where : where + 64] = bytes(len(content[where : where + 64]))
    elif what == "twice":
        content += content[where:]
    else:
        content.clear()
    path.write_bytes(content)
    return f"{what} at byte {where}"


Rows = list[list[str]]


def _set_cell(rows: Rows, row: int, column: int, rng: random.Random) -> str:
    rows[row][column] = rng.choice(CELLS)
    return f"{rows[row][column]!r} in line {row + 1}"


def _set_column(rows: Rows, row: int, column: int, rng: random.Random) -> str:
    value = rng.choice(CELLS)
    for cells in rows[1:]:
        cells[column] = value
    return f"{value!r} in all lines"


def _drop_column(rows: Rows, row: int, column: int, rng: random.Random) -> str:
    for cells in rows:
        del cells[column]
    return "without the column"


def _rename(rows: Rows, row: int, column: int, rng: random.Random) -> str:
    rows[0][column] = rng.choice(("other", "", rng.choice(rows[0])))
    return f"named {rows[0][column]!r}"


def _swap_columns(rows: Rows, row: int, column: int, rng: random.Random) -> str:
    other, first = rng.randrange(len(rows[0])), rng.choice((0, 1))
    for cells in rows[first:]:
        cells[column], cells[other] = cells[other], cells[column]
    return f"swapped with column {other}, {'without' if first else 'with'} the name"


def _repeat_row(rows: Rows, row: int, column: int, rng: random.Random) -> str:
    rows.append(rows[row])
    return f"line {row + 1} twice"


def _longer_row(rows: Rows, row: int, column: int, rng: random.Random) -> str:
    rows[row].append("1")
    return f"line {row + 1} longer"


def _shorter_row(rows: Rows, row: int, column: int, rng: random.Random) -> str:
    rows[row].pop()
    return f"line {row + 1} shorter"


def _fewer_rows(rows: Rows, row: int, column: int, rng: random.Random) -> str:
    del rows[rng.choice((1, 2, row)) :]
    return f"{len(rows)} lines"


def _other_order(rows: Rows, row: int, column: int, rng: random.Random) -> str:
    rows[1:] = rng.sample(rows[1:], len(rows) - 1)
    return "lines in another order"


TABLE_EDITS = (
    *[_set_cell] * 12,
    *[_set_column] * 2,
    _drop_column,
    _rename,
    *[_swap_columns] * 2,
    _repeat_row,
    _longer_row,
    _shorter_row,
    _fewer_rows,
    _other_order,
)


def edit_table(path: Path, rng: random.Random) -> str:
    """Edit a table and remove its metadata; return what was done."""
    with path.open(newline="") as stream:
        rows = list(csv.reader(stream))
    column, row = rng.randrange(len(rows[0])), rng.randrange(1, len(rows))
    name = rows[0][column]
    what = rng.choice(TABLE_EDITS)(rows, row, column, rng)
    with path.open("w", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows(rows)
    metadata_path(path).unlink(missing_ok=True)
    if path.name == "history.csv":
        _reseal_point(path.parent, history_sha256=file_sha256(path))
    return f"{name}: {what}"


def _reseal_point(folder: Path, **changes: Any) -> None:
    write_json(folder / "point.json", read_json(folder / "point.json") | changes)


def edit_json(path: Path, rng: random.Random) -> str:
    """Change a value of a JSON file at any depth, and make its seal fit; return what was done."""
    record = json.loads(path.read_text())
    sealed = record.pop(SEAL, None) is not None
    places = list(_places(record))
    parent, key = rng.choice(places)
    if rng.random() < 0.15:
        del parent[key]
        what = f"without {key}"
    elif isinstance(parent[key], list) and parent[key] and rng.random() < 0.5:
        parent[key] = rng.choice((parent[key][:-1], [*parent[key], parent[key][-1]], parent[key][::-1]))
        what = f"{key} of length {len(parent[key])}"
    else:
        parent[key] = rng.choice(VALUES)
        what = f"{key} = {parent[key]!r}"
    write_json(path, record, sealed)
    return what


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Each (container, key) in a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield value, key
        yield from _places(item)


def edit_tensors(path: Path, rng: random.Random) -> str:
    """Change an array or the metadata of a safetensors file, and make its digest fit; return what was done."""
    tensors, metadata = read_tensors(path)
    name = rng.choice(sorted(tensors))
    what = rng.choice(("array", "array", "array", "metadata"))
    if what == "metadata":
        parent, key = rng.choice(list(_places(metadata)))
        parent[key] = rng.choice(VALUES)
        what = f"{key} = {parent[key]!r}"
    else:
        changed = _changed_array(tensors.pop(name), rng)
        what = f"{name}: {changed[0]}"
        tensors |= {} if changed[1] is None else {name: changed[1]}
    write_tensors(path, tensors, metadata)
    if path.name == "weights.safetensors":
        _reseal_point(path.parent, weights_sha256=file_sha256(path))
    return what


def edit_array(path: Path, rng: random.Random) -> str:
    """Change data.npy, and make the digest in data.json fit; return what was done."""
    what, x = _changed_array(np.load(path), rng)
    if x is None:
        path.unlink()
    else:
        np.save(path, x)
        record = path.with_name("data.json")
        write_json(record, read_json(record) | {"sha256": file_sha256(path)})
    return what


def _changed_array(array: np.ndarray, rng: random.Random) -> tuple[str, np.ndarray | None]:
    what = rng.choice(("nan", "inf", "huge", "large", "zeros", "cut", "flat", "type", "missing", "negative"))
    changed = array.astype(array.dtype if array.dtype.kind == "f" else np.float64)
    if what in ("nan", "inf", "huge", "large"):
        value = {"nan": np.nan, "inf": np.inf, "huge": np.finfo(changed.dtype).max, "large": 1e17}[what]
        changed.reshape(-1)[rng.randrange(max(1, changed.size)) : 1 + rng.randrange(max(1, changed.size))] = value
    elif what == "zeros":
        changed[...] = 0
    elif what == "negative":
        changed = -changed - 1
    elif what == "cut":
        changed = changed[:-1] if changed.ndim else changed[None]
    elif what == "flat":
        changed = changed.reshape(-1) if changed.ndim > 1 else changed[..., None]
    elif what == "type":
        changed = changed.astype(np.int8)
    return what, None if what == "missing" else np.ascontiguousarray(changed)


EDITS: dict[str, Callable[[Path, random.Random], str]] = {
    ".csv": edit_table,
    ".json": edit_json,
    ".safetensors": edit_tensors,
    ".npy": edit_array,
}


def damage(path: Path, rng: random.Random) -> Damage:
    """Damage a file by accident or by an edit."""
    # Without a digest an accident in a table looks like an edit.
    sealed = path.suffix != ".csv" or metadata_path(path).is_file() or path.name == "history.csv"
    if sealed and rng.random() < 0.3 and path.name not in ("timing.json", "sweep.csv-metadata.json"):
        return Damage(accident(path, rng), True)
    return Damage(EDITS[path.suffix](path, rng), False)


# Judgement


def results_of(command: str, outcome: Outcome, folder: Path = Path("out")) -> dict[str, Any]:
    """What a command gave, without the origin that its files carry."""
    contents: dict[str, Any] = {"printed": outcome.printed} if command.startswith("predict") else {}
    for path in sorted(folder.rglob("*")) if folder.is_dir() else []:
        if path.suffix == ".json" and not path.name.endswith("metadata.json"):
            record = json.loads(path.read_text())
            contents[path.name] = {key: record[key] for key in record if key not in ("provenance", "made_by", SEAL)}
        elif path.suffix in (".csv", ".safetensors"):
            contents[path.name] = path.read_bytes()
    return contents


def judge(command: str, outcome: Outcome, is_accident: bool, before: dict[str, Any]) -> str:
    """Say how a command took the damage: refused, the same, read, or what is wrong about it."""
    if outcome.fault is not None:
        return "FAULT: " + outcome.fault.strip().splitlines()[-1]
    errors = [line for line in outcome.errors if "warning" not in line]
    if command == VERIFY and outcome.code == 1:
        return "refused"
    if outcome.code == 2:
        return "refused" if len(errors) == 1 else f"FAULT: {len(errors)} lines"
    if outcome.code:
        return f"FAULT: exit code {outcome.code}: {errors[-1:]}"
    results = results_of(command, outcome)
    if is_accident and command != TRAIN and results != before:
        return "FAULT: another result"
    return "the same" if results == before else "read"


def trial(whole: Path, number: int, before: dict[str, Any], most: int = 2) -> Iterator[tuple[str, str, str, Outcome]]:
    """Damage a copy of the sweep in the way of a number, and run at most this many commands that read the file.

    Yields (what was done, command, verdict, outcome).
    """
    rng = random.Random(number)
    file = sorted(READERS)[number % len(READERS)]
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name, "copy")
        shutil.copytree(whole, copy)
        with contextlib.chdir(copy):
            done = damage(Path(file), rng)
            commands = rng.sample(READERS[file], min(most, len(READERS[file])))
            # The training comes last, because it makes damaged points again.
            for command in sorted(commands, key=lambda command: command == TRAIN):
                shutil.rmtree("out", ignore_errors=True)
                outcome = run(command)
                verdict = judge(command, outcome, done.is_accident, before[command])
                yield f"{file}: {done.what}{' (accident)' * done.is_accident}", command, verdict, outcome


def expected(whole: Path) -> dict[str, dict[str, Any]]:
    """The results of every command on the undamaged files."""
    before = {}
    with contextlib.chdir(whole):
        for command in sorted({command for commands in READERS.values() for command in commands}):
            outcome = run(command)
            if outcome.code:
                raise RuntimeError(f"{command}: {outcome.errors or outcome.fault}")
            before[command] = results_of(command, outcome)
            shutil.rmtree("out", ignore_errors=True)
    return before


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--mutations", type=int, default=1000, help="how many files to damage")
    parser.add_argument("--first", type=int, default=0, help="number of the first of them")
    options = parser.parse_args()
    os.environ.setdefault("PHASEVAE_BACKEND", "torch")
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name:
        whole = Path(name)
        finish(whole)
        before = expected(whole)
        for number in range(options.first, options.first + options.mutations):
            for what, command, verdict, outcome in trial(whole, number, before):
                counts[verdict.partition(":")[0]] += 1
                if verdict.startswith("FAULT"):
                    print(f"{number}: {what}\n    phasevae {command}\n    {verdict}", flush=True)
                    if outcome.fault:
                        print("    " + outcome.fault.strip().replace("\n", "\n    "), flush=True)
    print(f"{options.mutations} damaged files, {sum(counts.values())} commands: {dict(counts)}")
    sys.exit(1 if counts["FAULT"] else 0)


if __name__ == "__main__":
    main()
