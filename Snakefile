# Data in; figures, fit.json and tables out. Each rule calls one verb of `phasevae`, so each step can be run by hand.
#
#   snakemake --cores all                                          the data sets that config.yaml names in `run`
#   snakemake --cores all demo --configfile config/demo.yaml       two small ones, in minutes
#   snakemake --cores all paper                                    the paper's two
#   snakemake --cores 1 data                                       the data alone, where there is a network to fetch them
#   snakemake --cores all figures                                  the figures of the data sets in `run`
#
# Everything lands under results/NAME/; the keys are explained in config.yaml.

from snakemake.utils import min_version

min_version("9.8")


configfile: "config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/resources.smk"
include: "workflow/rules/datasets.smk"
include: "workflow/rules/spectrum.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/refine.smk"
include: "workflow/rules/analysis.smk"
include: "workflow/rules/figures.smk"


localrules:
    all,
    demo,
    paper,
    data,
    figures,


wildcard_constraints:
    dataset="|".join(CONFIG["datasets"]),
    part="|coarse/|second/",
    bucket="[0-9]+",


rule all:
    default_target: True
    input:
        deliverables(*CONFIG["run"]),


rule demo:
    input:
        target("demo", "synthetic", "digits", missing="add --configfile config/demo.yaml"),


rule paper:
    input:
        target("paper", "gaussian", "cifar10", missing="run it with the config.yaml of the repository"),


rule data:
    input:
        expand(f"{RESULTS}/{{name}}/data.npy", name=CONFIG["run"]),


rule figures:
    input:
        [figure_files(name) for name in CONFIG["run"]],
