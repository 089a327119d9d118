# From data to figures, fit.json and tables. Each rule calls one command of `phasevae`, so each step can be run by hand.
#
#   snakemake --cores all                                          the data sets that config.yaml names in `run`
#   snakemake --cores all demo --configfile config/demo.yaml       two small data sets, in minutes
#   snakemake --cores all paper                                    the two data sets of the paper
#   snakemake --cores 1 data                                       only the data, on a machine with a network
#   snakemake --cores all figures                                  only the figures of the data sets in `run`
#
# All files are written to results/NAME/. config.yaml explains the keys.

import warnings

from snakemake.utils import min_version

min_version("9.8")

# Snakemake's own default of `disk_mb` makes it write this warning for each job of a report.
warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning, r"snakemake\.rules")


configfile: "config.yaml"


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/resources.smk"
include: "workflow/rules/datasets.smk"
include: "workflow/rules/spectrum.smk"
include: "workflow/rules/shards.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/refine.smk"
include: "workflow/rules/analysis.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/manifest.smk"


# The report begins with them.
config["verdicts"] = OUTPUTS.verdicts(*CONFIG["run"])


onstart:
    if workflow.local_exec:
        stop_jobs_on_sigterm()
    show_progress(logger, [job.rule.name for job in workflow.dag.needrun_jobs()], OUTPUTS.training_seconds())


localrules:
    all,
    demo,
    paper,
    data,
    figures,


wildcard_constraints:
    dataset="|".join(DATASETS),
    part="|coarse/|second/",
    bucket="[0-9]+",


rule all:
    default_target: True
    input:
        trained(*CONFIG["run"]),
        OUTPUTS.deliverables(*CONFIG["run"]),
        rules.manifest.output,
    message:
        f"all results of {', '.join(CONFIG['run'])} are complete"


rule demo:
    input:
        target("demo", "synthetic", "digits", missing="add --configfile config/demo.yaml"),
    message:
        "the demo is complete"


rule paper:
    input:
        target("paper", "gaussian", "cifar10", missing="run it with the config.yaml of the repository"),
    message:
        "the results of the paper's two data sets are complete"


rule data:
    input:
        expand(f"{RESULTS}/{{name}}/data.npy", name=CONFIG["run"]),
    message:
        "all data are complete"


rule figures:
    input:
        [OUTPUTS.figure_files(name) for name in CONFIG["run"]],
    message:
        "all figures are complete"
