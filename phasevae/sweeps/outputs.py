"""The files of a run of the workflow: data, tables and figures of a validated configuration, and its sweeps.

The rules of the Snakefile take their paths from here, so that they hold no computation of their own. Paths are strings
that begin with the results folder, because Snakemake compares paths as text.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from phasevae.artifacts.files import read_json
from phasevae.datasets.conditions import LABEL, column_of
from phasevae.datasets.files import folder_files
from phasevae.datasets.registry import data_shape
from phasevae.errors import InputError
from phasevae.sweeps.buckets import Sweep
from phasevae.sweeps.plan import grid_of, number_of_points, second_pass
from phasevae.sweeps.resources import bucket_cost, packed_buckets, upward_cost
from phasevae.sweeps.settings import GAUSSIAN, own_module

TABLES = (
    "data.npy",
    "data.json",
    "spectrum.json",
    "plan.csv",
    "sweep.csv",
    "dimensions.csv",
    "timing.csv",
    "histories.csv",
    "fit.json",
)
"""Files of every data set, besides its figures and points."""

REFINED_TABLES = ("refined.csv", "coarse/sweep.csv", "coarse/fit.json")
BRACKETING_TABLES = ("second/plan.csv", "second/sweep.csv", "bracketing.csv", "bracketing.json")

FIGURE_INPUTS = {
    "sweep": "sweep.csv",
    "dimensions": "dimensions.csv",
    "fit": "fit.json",
    "spectrum": "spectrum.json",
    "hysteresis": "hysteresis.csv",
    "bracketing": "bracketing.csv",
    "bracketing_summary": "bracketing.json",
}
"""The file of each input of a figure."""

FREE_POSTERIOR = (
    "elbo",
    "latent_variance",
    "kl",
    "kl_derivatives",
    "exponents",
    "slowing",
    "cascade",
    "beta_equivalence",
)
"""Figures of a fit, or of closed forms, of an encoder whose posterior variance is learned."""

UNKNOWN_SHAPE = 100_000, 64
"""(samples, features) that costs are estimated from while the shape of the data is not known."""


class Outputs:
    """All files of a run.

    Parameters
    ----------
    config : the validated configuration
    figures : for each figure the names of its inputs, keys of FIGURE_INPUTS

    Attributes
    ----------
    datasets : settings of each data set, with as few buckets as `cluster.least_minutes` asks for
    sweeps : first and second passes over all data sets

    Raises
    ------
    InputError when a bucket has more points than a command can take, and for more shards than samples.
    """

    def __init__(self, config: Mapping[str, Any], figures: Mapping[str, tuple[str, ...]]) -> None:
        self.results: str = config["results"]
        self._trainer = config["train_threads"], config["device"], config.get("data_memory_mb")
        self.figure_needs = figures
        # The bucket of a point is a hash of its path, so fewer buckets mean other jobs, but the same results.
        self.datasets = {name: _packed(settings, config) for name, settings in config["datasets"].items()}
        self.sweeps = [
            Sweep(name, part, f"{self.results}/{name}/{part}", second_pass(settings) if part else settings)
            for name, settings in self.datasets.items()
            for part in (["", "second/"] if settings["bracket"] else [""])
        ]
        self._sweeps = {(sweep.dataset, sweep.part): sweep for sweep in self.sweeps}
        for sweep in self.sweeps:
            sweep.check()
        for name, settings in self.datasets.items():
            for file in self.own_likelihood(name):
                if not Path(file).is_file():
                    raise InputError(f"datasets.{name}.likelihood: {file}: no such file")
            shards = settings["shards"]
            if shards > 1 and shards > (n_samples := self.shape(name)[0]):
                raise InputError(f"datasets.{name}.shards: {shards}, must be at most its {n_samples} samples")

    def sweep(self, dataset: str, part: str, **_: str) -> Sweep:
        """Return one pass over a data set.

        Parameters
        ----------
        dataset : name of the data set
        part : "", "second/", or "coarse/" for tables of the first pass before its grid is refined
        """
        return self._sweeps[dataset, part.removeprefix("coarse/")]

    def is_refined(self, dataset: str, part: str, **_: str) -> bool:
        """Return whether the tables of a part hold points of a refined grid; the parameters are those of `sweep`."""
        return self.datasets[dataset]["refine"] and part != "coarse/"

    def points_of_table(self, plan: Path | str, dataset: str, part: str, **_: str) -> list[str]:
        """Return what must exist before a table is made.

        These are all points of the first stage and, for a refined grid, the flags of the buckets with new points.

        Parameters
        ----------
        plan : the plan that the table follows
        dataset, part : as in `sweep`
        """
        sweep = self.sweep(dataset, part)
        return sweep.records() + (sweep.refined_flags(plan) if self.is_refined(dataset, part) else [])

    def first_stage(self, dataset: str, part: str, bucket: str) -> list[str]:
        """Return the files of the points that a bucket of a refined plan shares with the first stage.

        Parameters
        ----------
        dataset, part : as in `sweep`
        bucket : number of the bucket
        """
        sweep = self.sweep(dataset, part)
        return sweep.point_files(sweep.buckets.get(int(bucket), []))

    def upward_sweep(self, dataset: str, part: str = "", **_: str) -> list[str]:
        """Return the table of the upward sweep that the fit uses: of the first pass, if the settings ask for one."""
        asked = "hysteresis_ratio" in self.datasets[dataset] and not part
        return [f"{self.results}/{dataset}/hysteresis.csv"] if asked else []

    def own_likelihood(self, dataset: str) -> list[str]:
        """Return the Python file of a likelihood of the user's own; none for other likelihoods."""
        module = own_module(self.datasets[dataset])
        return [] if module is None else [str(module)]

    def likelihood_options(self, dataset: str) -> str:
        """Return the options of `phasevae spectrum` for the likelihood of a data set; none for the Gaussian one."""
        name, options = (self.datasets[dataset][key] for key in ("likelihood", "likelihood_options"))
        if name == GAUSSIAN:
            return ""
        pairs = ",".join(
            f"{key}={json.dumps(value) if not isinstance(value, str) else value}" for key, value in options.items()
        )
        return shlex.join(["--likelihood", name, *(["--likelihood-options", pairs] if pairs else [])])

    def shape(self, dataset: str) -> tuple[int, int]:
        """(samples, features) of a data set: as saved, or as its settings describe it, or a guess."""
        shape = None
        with contextlib.suppress(InputError):  # of a damaged data.json, which the commands that read it name
            shape = data_shape(self.datasets[dataset], Path(self.results, dataset))
        return shape or UNKNOWN_SHAPE

    def bucket_cost(self, sweep: Sweep, n_points: int) -> dict[str, float]:
        """Estimated cost of training points of a sweep as one ensemble (see `phasevae.sweeps.resources`)."""
        return bucket_cost(sweep.settings, n_points, self.shape(sweep.dataset), *self._trainer)

    def upward_cost(self, dataset: str) -> dict[str, float]:
        """Estimated cost of the upward sweep of a data set."""
        return upward_cost(self.datasets[dataset], self.shape(dataset), *self._trainer)

    def training_seconds(self) -> dict[str, float]:
        """Estimated time of each training rule, by its name, if no point is trained longer than once."""
        seconds = {}
        for sweep in self.sweeps:
            once = dataclasses.replace(sweep, settings={**sweep.settings, "extend_unconverged": 1})
            for bucket, points in sweep.buckets.items():
                seconds[sweep.rule(bucket)] = self.bucket_cost(once, len(points))["seconds"]
        upward = [self.upward_cost(name)["seconds"] for name in self.datasets if self.upward_sweep(name)]
        typical = {"hysteresis": upward, "train_refined": list(seconds.values())}
        return seconds | {rule: sum(values) / len(values) for rule, values in typical.items() if values}

    def figures(self, dataset: str) -> list[str]:
        """Names of the figures of a data set: those of every sweep, and those that its settings ask for."""
        settings = self.datasets[dataset]
        has_condition = "condition" in settings or settings["kind"] == "conditional"
        unaware = has_condition and not settings["encoder_sees_condition"]
        optional = {
            "hysteresis": bool(self.upward_sweep(dataset)),
            "beta_equivalence": isinstance(settings.get("beta"), list) and not grid_of(settings).over_beta,
            "bracketing": settings["bracket"],
            "conditions": has_condition,
            "hierarchy": settings.get("hierarchy") is not None,
            "residual": settings.get("hierarchy") is None,
            # Its curvatures are those of a Gaussian decoder, one level of latents, an encoder that sees the condition.
            "soft_modes": not grid_of(settings).over_beta and settings.get("hierarchy") is None and not unaware,
        }
        if isinstance((settings.get("hierarchy") or {}).get("posterior_variance"), float):
            optional |= dict.fromkeys(FREE_POSTERIOR, False)
        return [figure for figure in self.figure_needs if optional.get(figure, True)]

    def figure_files(self, dataset: str) -> list[str]:
        """All files of the figures of a data set."""
        folder = f"{self.results}/{dataset}/figures"
        return [f"{folder}/{figure}.{suffix}" for figure in self.figures(dataset) for suffix in ("pdf", "png")]

    def figure_inputs(self, figure: str) -> dict[str, str]:
        """The file of each input of a figure, with the wildcard {dataset}."""
        return {need: f"{self.results}/{{dataset}}/{FIGURE_INPUTS[need]}" for need in self.figure_needs[figure]}

    def figure_group(self, figure: str) -> str | None:
        """The group of rules, one SLURM job, that a figure belongs to: that of the last of its inputs."""
        needs = set(self.figure_needs[figure])
        return None if not needs else "data" if needs == {"spectrum"} else "tables"

    def tables(self, dataset: str) -> list[str]:
        """All tables of a data set, of both passes."""
        settings = self.datasets[dataset]
        refined = REFINED_TABLES if settings["refine"] else ()
        bracketing = BRACKETING_TABLES if settings["bracket"] else ()
        return [f"{self.results}/{dataset}/{table}" for table in (*TABLES, *refined, *bracketing)]

    def deliverables(self, *datasets: str) -> list[str]:
        """All results of data sets but their points: the tables are made from these."""
        return [file for name in datasets for file in (*self.tables(name), *self.figure_files(name))]

    def training_rules(self, *datasets: str) -> list[str]:
        """Names of the rules that train the points of data sets, without those that a refinement adds."""
        return [sweep.rule(bucket) for sweep in self.sweeps if sweep.dataset in datasets for bucket in sweep.buckets]

    def verdicts(self, *datasets: str) -> dict[str, str]:
        """The sentence about each data set that its fit.json begins with; a missing or damaged file has none."""
        verdicts = {}
        for name in datasets:
            with contextlib.suppress(InputError):
                verdicts[name] = read_json(Path(self.results, name, "fit.json"), ("verdict",))["verdict"]
        return verdicts

    def shard(self, step: str) -> str:
        """Path of a part of the data after a step of the sharded spectrum, "first" or "second", with wildcards."""
        return f"{self.results}/{{dataset}}/shards/{step}/{{shard}}of{{shards}}.safetensors"

    def shards(self, dataset: str, step: str) -> list[str]:
        """Paths of all parts of a data set after a step of the sharded spectrum, "first" or "second"."""
        count = self.datasets[dataset]["shards"]
        pattern = self.shard(step)
        return [pattern.format(dataset=dataset, shard=shard, shards=count) for shard in range(1, count + 1)]

    def names_where(self, condition: Callable[[Mapping[str, Any]], bool]) -> str:
        """Names of the data sets whose settings meet a condition, as a regular expression."""
        return "|".join(name for name, settings in self.datasets.items() if condition(settings)) or "(?!)"


def own_files(settings: Mapping[str, Any]) -> list[str]:
    """The user's own files of a data set: all files of a folder, and those that do not exist."""
    values = [settings[key] for key in ("path", "archive") if key in settings]
    condition = settings.get("condition", LABEL)
    values += [] if condition == LABEL or column_of(condition) is not None else [condition]
    paths = [Path(path).expanduser() for value in values for path in (value if isinstance(value, list) else [value])]
    # Of a folder, every file: its own time does not change when one of them is overwritten.
    files = [file for path in paths for file in (_files_of(path) if path.is_dir() else [path])]
    # Pipes and devices, and links of a folder that lead nowhere, are left to the command, which names them.
    return [str(file) for file in files if file.is_file() or (file in paths and not file.exists())]


def _files_of(folder: Path) -> list[Path]:
    """All files of a folder; of one that cannot be read none, and the command names it."""
    with contextlib.suppress(InputError):
        return folder_files(folder)
    return []


def _packed(settings: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with as few buckets as `least_minutes` asks for; saved data do not change this number."""
    shape = data_shape(settings, Path(os.devnull)) or UNKNOWN_SHAPE
    n_points = number_of_points(settings)
    once = {**settings, "extend_unconverged": 1}
    cost = bucket_cost(once, n_points, shape, config["train_threads"], config["device"])
    n_buckets = packed_buckets(settings["n_buckets"], cost, 60 * config["cluster"]["least_minutes"])
    return {**settings, "n_buckets": n_buckets}
