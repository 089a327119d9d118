# What jobs ask for. On one machine only the threads and the sum of the memory count. A batch system ends a job that
# takes more than it asked for; the job runs again and asks for more memory and time.

from phasevae.sweeps.resources import further_resources, matrices_mb, planned_points, resource_request

CLUSTER = CONFIG["cluster"]


def each_attempt(amount):
    """A resource that grows with each attempt at a job."""
    return lambda wildcards, attempt: attempt * amount


def matrices(count):
    """Memory of a job that holds `count` matrices of D x D of a data set, and 2,500 MB. Measured with 2,500 features:
    3 matrices for moments and the file of them, 6 for eigenvectors; the rules ask for a third more."""
    return lambda wildcards, attempt: attempt * (2500 + matrices_mb(count, OUTPUTS.shape(wildcards.dataset)[1]))


def data_memory_option(wildcards, input):
    """The option for `data_memory_mb`, which is no reason to train again: hence a function of the input."""
    return f" --data-memory-mb {CONFIG['data_memory_mb']}" if "data_memory_mb" in CONFIG else ""


def training_resources(cost):
    """Resources of a training job. cost: function of the wildcards and the input."""

    def amount(name):
        def ask(wildcards, input, attempt):
            return resource_request(cost(wildcards, input), attempt, CONFIG["device"])[name]

        return ask

    return {name: amount(name) for name in ("mem_mb", "runtime")} | further_resources(CLUSTER, CONFIG["device"])
