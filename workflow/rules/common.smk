# What the rules share: the checked configuration, and the paths and sweeps that follow from it.
#
# Snakemake decides from inputs and params what to run again. Two params serve that purpose.
#   hp     ONE canonical JSON string of exactly the settings that its stage uses. Snakemake compares params as a set
#          without order, so that it would not notice two params that swap their values.
#   code   a hash of exactly the modules that its stage runs, because Snakemake does not see changes of a package.
# Snakemake does not compare params that are functions of the input: they say how and where a job runs.

import os
import sys
from pathlib import Path

from snakemake.logging import logger

from phasevae import InputError
from phasevae.artifacts.files import canonical_json
from phasevae.cli.parent import this_process
from phasevae.config import dataset_options, validate
from phasevae.figures.registry import FIGURES
from phasevae.kernels import backends
from phasevae.provenance.stages import stage_code
from phasevae.sweeps.digest import training_code_hash
from phasevae.sweeps.network_file import network_content, network_option
from phasevae.sweeps.outputs import Outputs, own_files
from phasevae.sweeps.progress import show_progress
from phasevae.sweeps.settings import GAUSSIAN, Settings, grid_keys, plan_keys, refine_keys, train_keys, training_keys
from phasevae.sweeps.termination import stop_jobs_on_sigterm

# Jobs use the `phasevae` of the environment that Snakemake runs in, even when that environment is not activated.
os.environ.update(PATH=os.pathsep.join([str(Path(sys.executable).parent), *os.get_exec_path()]))

# The commands of the jobs end with this process. An environment variable, because a prefix of the shell would hold for
# all rules of a workflow that uses this one as a module, and would take Snakemake's strict mode away from them.
os.environ.update(PHASEVAE_PARENT=this_process())

# A module shares its configuration with the workflow that uses it; the sentences of the report are no key.
config.pop("verdicts", None)


def end_with(mistake):
    """End Snakemake with one line about a mistake of the user. To an exception Snakemake would add the place in a
    Snakefile where it was raised, a traceback and wildcards, and the mistake is not there."""
    logger.error(f"Error: {mistake}")
    sys.exit(1)


try:
    CONFIG = validate(config, " + ".join(dict.fromkeys(map(str, workflow.configfiles))) or "config")
    OUTPUTS = Outputs(CONFIG, {name: figure.needs for name, figure in FIGURES.items()})
    backends.family()  # PHASEVAE_BACKEND is checked
except InputError as error:
    end_with(error)

RESULTS = OUTPUTS.results
DATASETS = OUTPUTS.datasets


def settings_of(wildcards):
    """Settings of the pass that the wildcards name."""
    return OUTPUTS.sweep(**wildcards).settings


def training_code(settings):
    """The code of the training; where unconverged points are trained longer, also the code that judges them; and the
    content of the file of the user's own networks, whose place and time are no reason to train again."""
    code = training_code_hash(Settings.from_keys(training_keys(settings)))
    verdict = stage_code("verdict") if settings["extend_unconverged"] > 1 else ""
    return " ".join(filter(None, (code, verdict, network_content(settings))))


def sweeps_beta(dataset):
    """Whether a data set is swept over the weight of KL, as for all likelihoods but the Gaussian one."""
    return DATASETS[dataset]["likelihood"] != GAUSSIAN


def files_of_data(wildcards):
    """The user's own files, so that a change of them is noticed. One that is missing may be made by a rule of a
    workflow that uses this one. If none makes it, it is a mistake in the configuration, but not where the data are
    there already: these stay in use."""
    files = own_files(DATASETS[wildcards.dataset])
    if not Path(RESULTS, wildcards.dataset, "data.json").is_file():
        for file in files:
            if not Path(file).exists() and not any(each.is_producer(file) for each in workflow.rules):
                end_with(f"datasets.{wildcards.dataset}: {file}: no such file or folder")
    return files


def plan_of_table(wildcards):
    """The plan that a table follows; where the grid is refined, the plan of both stages, once it is known."""
    if OUTPUTS.is_refined(**wildcards):
        return checkpoints.refine.get(**wildcards).output[0]
    return f"{OUTPUTS.sweep(**wildcards).folder}plan.csv"


def labels(item):
    """Labels of a table in the report: its name and the pass that it belongs to."""
    return lambda wildcards: {"item": f"{item} {wildcards.part}".rstrip(" /")}


def trained(*names):
    """All files of the points of data sets. As outputs of their rules they need no search for the rule that makes them,
    whose time would grow with the square of the number of points."""
    return [file for name in OUTPUTS.training_rules(*names) for file in getattr(rules, name).output]


def target(rule, *names, missing):
    """Results of data sets that may not be configured: an error then, if the target is asked for."""

    def files(wildcards):
        absent = [name for name in names if name not in DATASETS]
        if absent:
            end_with(f"target {rule}: no data set {' or '.join(absent)} in the configuration; {missing}")
        listed = rules.manifest.output if set(names) == set(CONFIG["run"]) else []
        return [*trained(*names), *OUTPUTS.deliverables(*names), *listed]

    return files
