# What the rules share: the checked configuration, paths, and the keys and code that each stage depends on.
#
# Snakemake decides what to run again from params (and inputs). Each rule therefore carries
#   hp     ONE canonical JSON string of exactly the settings its stage uses (params are compared as an unordered
#          set, so two separate ones could swap values unnoticed), and
#   code   a hash of exactly the modules its stage runs, because Snakemake does not see changes of a package.

import math
import os
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

from phasevae import InputError
from phasevae.artifacts.files import canonical_json
from phasevae.config import dataset_options, validate
from phasevae.figures.registry import FIGURES
from phasevae.provenance.stages import stage_code
from phasevae.sweep.plan import make_plan, plan_text, read_plan, second_pass
from phasevae.sweep.points import POINT_FILES
from phasevae.sweep.settings import grid_keys, plan_keys, refine_keys, train_keys, training_keys

# `phasevae` of the same environment as this Snakemake, also when that environment is not activated.
os.environ.update(PATH=os.pathsep.join([str(Path(sys.executable).parent), *os.get_exec_path()]))

try:
    CONFIG = validate(config, " + ".join(dict.fromkeys(map(str, workflow.configfiles))) or "config")
except InputError as error:
    raise WorkflowError(str(error)) from None

RESULTS = CONFIG["results"]
DATASETS = CONFIG["datasets"]
# The passes of each data set: (name, part), where part is the folder in results/NAME/ that the pass lies in. With
# `bracket` there is a second one; with `refine` results/NAME/coarse/ holds tables of the first before it is refined.
PASSES = [(name, "") for name in DATASETS] + [(name, "second/") for name in DATASETS if DATASETS[name]["bracket"]]
FIGURE_INPUTS = {
    "sweep": "sweep.csv",
    "dimensions": "dimensions.csv",
    "fit": "fit.json",
    "spectrum": "spectrum.json",
    "hysteresis": "hysteresis.csv",
    "bracketing": "bracketing.csv",
    "passes": "bracketing.json",
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


def settings_of(dataset, part, **other_wildcards):
    """Settings of one pass of a data set; those of its coarse tables are the first pass's."""
    return second_pass(DATASETS[dataset]) if part == "second/" else DATASETS[dataset]


def figure_files(name):
    return expand(f"{RESULTS}/{name}/figures/{{figure}}.{{format}}", figure=figures_of(name), format=["pdf", "png"])


def figures_of(name):
    """Figures of one data set: those that every sweep has, and those that its settings ask for."""
    settings = DATASETS[name]
    asked = {
        "hysteresis": "hysteresis_ratio" in settings,
        "beta_equivalence": isinstance(settings["beta"], list),
        "bracketing": settings["bracket"],
    }
    return [figure for figure in FIGURES if asked.get(figure, True)]


def upward_sweep(wildcards):
    """The upward sweep of a data set whose settings ask for one; it goes with the fit of the first pass."""
    asked = "hysteresis_ratio" in DATASETS[wildcards.dataset] and not wildcards.part
    return [f"{RESULTS}/{wildcards.dataset}/hysteresis.csv"] if asked else []


def point_files(points, name, part):
    return expand(f"{RESULTS}/{name}/{part}{{path}}/{{file}}", path=[point.path for point in points], file=POINT_FILES)


def item(name):
    """Labels in the report: the name of an item, and the part of the results it belongs to."""
    return lambda wildcards: {"item": f"{name} {wildcards.part}".rstrip(" /")}


def tables(name):
    refined = ["refined.csv", "coarse/sweep.csv", "coarse/fit.json"] if DATASETS[name]["refine"] else []
    second = ["second/plan.csv", "second/sweep.csv"] if DATASETS[name]["bracket"] else []
    compared = ["bracketing.csv", "bracketing.json"] if DATASETS[name]["bracket"] else []
    return expand(f"{RESULTS}/{name}/{{table}}", table=TABLES + refined + second + compared)


def deliverables(*names):
    """All results of data sets. Points of a refined grid are not known yet: the tables ask for them."""
    points = [point_files(make_plan(settings_of(name, part)), name, part) for name, part in PASSES if name in names]
    return sum([*map(tables, names), *points, *map(figure_files, names)], [])


def target(rule, *names, missing):
    """Deliverables of data sets that may not be configured: an error then, but only if the target is asked for."""
    absent = [name for name in names if name not in DATASETS]
    if not absent:
        listed = [f"{RESULTS}/manifest.json"] if set(names) == set(CONFIG["run"]) else []
        return deliverables(*names) + listed

    def refuse(wildcards):
        raise WorkflowError(f"target {rule}: no data set {' or '.join(absent)} in the configuration; {missing}")

    return refuse


def buckets(settings):
    """Points of one data set by bucket; empty buckets are left out."""
    found = {}
    for point in make_plan(settings):
        found.setdefault(point.bucket, []).append(point)
    return dict(sorted(found.items()))


def plan_argument(name, points):
    """The points of a bucket as an argument of its command, which cannot be longer than 128 KiB on Linux."""
    text = plan_text(points)
    if len(text) > 100_000:
        least = math.ceil(DATASETS[name]["n_buckets"] * len(text) / 50_000)
        raise WorkflowError(f"datasets.{name}.n_buckets: {len(points)} points are too many for one; set it to {least}")
    return text


def folder_of_pass(wildcards):
    """Folder of the pass that a table is of: of the first one for its coarse tables."""
    return f"{RESULTS}/{wildcards.dataset}/{wildcards.part.removeprefix('coarse/')}"


def is_refined(wildcards):
    return DATASETS[wildcards.dataset]["refine"] and wildcards.part != "coarse/"


def plan_of_table(wildcards):
    """The plan that a table is of: of both stages, once it is there, where the grid is refined."""
    if is_refined(wildcards):
        return checkpoints.refine.get(**wildcards).output[0]
    return f"{folder_of_pass(wildcards)}plan.csv"


def points_of_table(wildcards):
    """What must be there before a table is made: all points of the first stage, all buckets with new ones after it."""
    folder = folder_of_pass(wildcards)
    known = make_plan(settings_of(**wildcards))
    files = [f"{folder}{point.path}/point.json" for point in known]
    if not is_refined(wildcards):
        return files
    new = {point.bucket for point in read_plan(plan_of_table(wildcards)) if point not in known}
    return files + [f"{folder}refined/bucket={bucket}.done" for bucket in sorted(new)]


def first_stage(wildcards):
    """The points that a bucket of a refined plan shares with the first stage."""
    known = buckets(settings_of(**wildcards)).get(int(wildcards.bucket), [])
    return [ancient(path) for path in point_files(known, wildcards.dataset, wildcards.part)]


def own_data(wildcards):
    """The user's own files as an input, so that changing them is noticed. A missing one is left to the command,
    whose error stops this data set alone; as an input it would stop them all."""
    settings = DATASETS[wildcards.dataset]
    named = [settings[key] for key in ("path", "archive") if key in settings]
    given = [Path(path).expanduser() for value in named for path in (value if isinstance(value, list) else [value])]
    # Of a folder, every file: its own time does not change when one of them is overwritten.
    files = [sorted(path.rglob("*")) if path.is_dir() else [path] for path in given]
    return [str(path) for path in sum(files, []) if path.is_file()]


def training_code(settings):
    """The code of the training; with longer training of what has not converged, also how that is judged."""
    extended = settings["extend_unconverged"] > 1
    return " ".join(map(stage_code, ["train", "verdict"] if extended else ["train"]))


SHARD = f"{RESULTS}/{{dataset}}/shards/{{pass_}}/{{shard}}of{{shards}}.safetensors"


def shards_of(pass_):
    """All parts of a data set after a pass, as a function of the wildcards."""

    def files(wildcards):
        count = DATASETS[wildcards.dataset]["shards"]
        numbers = range(1, count + 1)
        return expand(SHARD, dataset=wildcards.dataset, pass_=pass_, shard=numbers, shards=count)

    return files


def names_where(holds):
    """Names of the data sets whose settings are so, as a wildcard constraint; one that nothing meets for none."""
    return "|".join(name for name, settings in DATASETS.items() if holds(settings)) or "(?!)"
