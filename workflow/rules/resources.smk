# What jobs ask for. On one machine only threads and the sum of the memory count; a batch system ends a job that takes
# more than it asked for, and it is tried again with more of both.

from phasevae.arguments import data_shape
from phasevae.cost import estimate, further_resources, packed_buckets, request

CLUSTER = CONFIG["cluster"]
# (samples, features) that a training's cost is taken from while its data are not known.
UNKNOWN_SHAPE = 100_000, 64


def each_attempt(amount):
    """A resource that grows with the attempts at a job."""
    return lambda wildcards, attempt: attempt * amount


def training_cost(settings, n_points, shape, budgets=1):
    n_samples, dimension = shape or UNKNOWN_SHAPE
    settings = settings | {"samples": budgets * settings["samples"]}
    return estimate(settings, n_points, dimension, n_samples, CONFIG["train_threads"], CONFIG["device"])


def training_resources(job_of):
    """Resources of a training job, which trains a bucket as one ensemble.

    job_of: function of wildcards and input that gives the settings and the number of models.
    """

    def part(name):
        def ask(wildcards, input, attempt):
            settings, n_points = job_of(wildcards, input)
            # At worst no point converges, and all are trained with 1, 2, 4, ... times the samples.
            budgets = 2 * settings["extend_unconverged"] - 1
            cost = training_cost(settings, n_points, data_shape(settings, Path(input.record).parent), budgets)
            return request(cost, attempt, CONFIG["device"])[name]

        return ask

    return {"mem_mb": part("mem_mb"), "runtime": part("runtime")} | further_resources(CLUSTER, CONFIG["device"])


def refined_job(wildcards, input):
    """What `training_resources` asks of a bucket of a refined plan; of one point in a dry run of what makes that plan."""
    planned = read_plan(input.plan) if Path(input.plan).is_file() else []
    return settings_of(**wildcards), max(1, sum(point.bucket == int(wildcards.bucket) for point in planned))


def upward_job(wildcards, input):
    """What `training_resources` asks of an upward sweep: each ratio and seed on two branches."""
    settings = DATASETS[wildcards.dataset]
    return settings, 2 * len(settings["hysteresis_ratio"]) * len(settings["seeds"])


def packed(settings):
    """Settings with as few buckets as `least_minutes` asks for. What files turn out to hold must not change it."""
    cost = training_cost(settings, len(make_plan(settings)), data_shape(settings, Path(os.devnull)))
    return settings | {"n_buckets": packed_buckets(settings["n_buckets"], cost, 60 * CLUSTER["least_minutes"])}


# Points are divided by what their paths hash to, so fewer buckets are other jobs for the same results.
DATASETS.update({name: packed(settings) for name, settings in DATASETS.items()})
