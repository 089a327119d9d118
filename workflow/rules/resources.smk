# What jobs ask for. On one machine only threads and the sum of the memory count; a batch system ends a job that takes
# more than it asked for, and it is tried again with more of both.

from phasevae.datasets.registry import data_shape
from phasevae.sweep.points import budgets
from phasevae.sweep.resources import (
    estimate_cost,
    estimate_hysteresis_cost,
    further_resources,
    matrices_mb,
    packed_buckets,
    resource_request,
)

CLUSTER = CONFIG["cluster"]
# (samples, features) that a training's cost is taken from while its data are not known.
UNKNOWN_SHAPE = 100_000, 64


def each_attempt(amount):
    """A resource that grows with the attempts at a job."""
    return lambda wildcards, attempt: attempt * amount


def matrices(count, further=2500):
    """Memory of a job that holds `count` matrices of D x D of a data set, and `further` MB. Measured with 2,500 features:
    3 for moments and what is written of them, 6 for eigenvectors; rules ask for a third more."""

    def ask(wildcards, attempt):
        _, dimension = shape_of(DATASETS[wildcards.dataset], f"{RESULTS}/{wildcards.dataset}")
        return attempt * (further + matrices_mb(count, dimension))

    return ask


def shape_of(settings, folder):
    """(samples, features) of the data that are saved in a folder; as far as they are known while they are not."""
    return data_shape(settings, Path(folder)) or UNKNOWN_SHAPE


def bucket_cost(settings, n_points, shape):
    """Cost of a bucket, which is trained as one ensemble. At worst no point of it converges, and all are trained with
    1, 2, 4, ... times the samples."""
    n_samples, dimension = shape
    settings = settings | {"samples": sum(budgets(settings["extend_unconverged"])) * settings["samples"]}
    return estimate_cost(settings, n_points, dimension, n_samples, CONFIG["train_threads"], CONFIG["device"])


def training_resources(cost_of):
    """Resources of a training job. cost_of: function of wildcards, input and the shape of the data."""

    def part(name):
        def ask(wildcards, input, attempt):
            folder = Path(input.record).parent
            shape = shape_of(DATASETS[folder.name], folder)
            return resource_request(cost_of(wildcards, input, shape), attempt, CONFIG["device"])[name]

        return ask

    return {"mem_mb": part("mem_mb"), "runtime": part("runtime")} | further_resources(CLUSTER, CONFIG["device"])


def refined_cost(wildcards, input, shape):
    """Cost of a bucket of a refined plan; of one point in a dry run of what makes that plan."""
    planned = read_plan(input.plan) if Path(input.plan).is_file() else []
    n_points = max(1, sum(point.bucket == int(wildcards.bucket) for point in planned))
    return bucket_cost(settings_of(**wildcards), n_points, shape)


def upward_cost(wildcards, input, shape):
    """Cost of an upward sweep, in which every model gets `samples` once, converged or not."""
    n_samples, dimension = shape
    settings = DATASETS[wildcards.dataset]
    return estimate_hysteresis_cost(settings, dimension, n_samples, CONFIG["train_threads"], CONFIG["device"])


def packed(settings):
    """Settings with as few buckets as `least_minutes` asks for. What files turn out to hold must not change it."""
    shape = shape_of(settings, os.devnull)
    cost = bucket_cost(settings | {"extend_unconverged": 1}, len(make_plan(settings)), shape)
    return settings | {"n_buckets": packed_buckets(settings["n_buckets"], cost, 60 * CLUSTER["least_minutes"])}


# Points are divided by what their paths hash to, so fewer buckets are other jobs for the same results.
DATASETS.update({name: packed(settings) for name, settings in DATASETS.items()})
