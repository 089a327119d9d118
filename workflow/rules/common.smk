# What the rules share: the checked configuration, paths, and the keys and code that each stage depends on.
#
# Snakemake decides what to run again from params (and inputs). Each rule therefore carries
#   hp     ONE canonical JSON string of exactly the settings its stage uses (params are compared as an unordered
#          set, so two separate ones could swap values unnoticed), and
#   code   a hash of exactly the modules its stage runs, because Snakemake does not see changes of a package.

import os
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

from phasevae import InputError
from phasevae.artifacts import canonical_json
from phasevae.config import dataset_options, validate
from phasevae.figures import FIGURES
from phasevae.plan import make_plan, plan_keys, plan_text, training_keys
from phasevae.points import POINT_FILES
from phasevae.provenance import source_hash, training_code_hash

# `phasevae` of the same environment as this Snakemake, also when that environment is not activated.
os.environ.update(PATH=os.pathsep.join([str(Path(sys.executable).parent), *os.get_exec_path()]))

try:
    CONFIG = validate(config, " + ".join(dict.fromkeys(map(str, workflow.configfiles))) or "config")
except InputError as error:
    raise WorkflowError(str(error)) from None

RESULTS = CONFIG["results"]
DATASETS = CONFIG["datasets"]
FIGURE_INPUTS = {
    "sweep": "sweep.csv",
    "dimensions": "dimensions.csv",
    "fit": "fit.json",
    "spectrum": "spectrum.json",
    "hysteresis": "hysteresis.csv",
}
TABLES = [
    "data.npy",
    "data.json",
    "spectrum.json",
    "plan.csv",
    "sweep.csv",
    "dimensions.csv",
    "timing.csv",
    "histories.csv",
    "fit.json",
]


def figures_of(name):
    """Figures of one data set: those that every sweep has, and those that its settings ask for."""
    settings = DATASETS[name]
    asked = {"hysteresis": "hysteresis_ratio" in settings, "beta_equivalence": isinstance(settings["beta"], list)}
    return [figure for figure in FIGURES if asked.get(figure, True)]


def figure_files(name):
    return expand(f"{RESULTS}/{name}/figures/{{figure}}.{{format}}", figure=figures_of(name), format=["pdf", "png"])


def upward_sweep(wildcards):
    """The upward sweep of a data set whose settings ask for one."""
    asked = "hysteresis_ratio" in DATASETS[wildcards.dataset]
    return [f"{RESULTS}/{wildcards.dataset}/hysteresis.csv"] if asked else []


def point_files(points, name):
    return expand(f"{RESULTS}/{name}/{{path}}/{{file}}", path=[point.path for point in points], file=POINT_FILES)


def deliverables(*names):
    tables = expand(f"{RESULTS}/{{name}}/{{table}}", name=names, table=TABLES)
    points = [path for name in names for path in point_files(make_plan(DATASETS[name]), name)]
    return tables + points + [path for name in names for path in figure_files(name)]


def target(rule, *names, missing):
    """Deliverables of data sets that may not be configured: an error then, but only if the target is asked for."""
    absent = [name for name in names if name not in DATASETS]
    if not absent:
        return deliverables(*names)

    def refuse(wildcards):
        raise WorkflowError(f"target {rule}: no data set {' or '.join(absent)} in the configuration; {missing}")

    return refuse


def buckets(settings):
    """Points of one data set by bucket; empty buckets are left out."""
    found = {}
    for point in make_plan(settings):
        found.setdefault(point.bucket, []).append(point)
    return dict(sorted(found.items()))


def own_data(wildcards):
    """The user's own files as an input, so that changing them is noticed. A missing one is left to the command,
    whose error stops this data set alone; as an input it would stop them all."""
    settings = DATASETS[wildcards.dataset]
    given = [Path(settings[key]).expanduser() for key in ("path", "archive") if key in settings]
    # Of a folder, every file: its own time does not change when one of them is overwritten.
    files = [sorted(path.rglob("*")) if path.is_dir() else [path] for path in given]
    return [str(path) for path in sum(files, []) if path.is_file()]


def memory(wildcards, input):
    """MB: a fixed part for the libraries, and room for copies of the data."""
    return int(2500 + 4 * input.size_mb)
