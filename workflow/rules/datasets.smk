def files_of_data(wildcards):
    """The user's own files, so that a change of them is noticed. A missing one may be made by a rule of a workflow that
    uses this one. If none makes it, it is a mistake in the configuration. Where the data are there already, the command
    names the file if they have to be made again."""
    files = own_files(DATASETS[wildcards.dataset])
    lost = [
        file for file in files if not Path(file).exists() and not any(rule.is_producer(file) for rule in workflow.rules)
    ]
    if lost and not Path(RESULTS, wildcards.dataset, "data.json").is_file():
        end_with(f"datasets.{wildcards.dataset}: {lost[0]}: no such file or folder")
    return [file for file in files if file not in lost]


rule dataset:
    input:
        files_of_data,
    output:
        data=f"{RESULTS}/{{dataset}}/data.npy",
        record=f"{RESULTS}/{{dataset}}/data.json",
    log:
        f"{RESULTS}/{{dataset}}/logs/dataset.log",
    benchmark:
        f"{RESULTS}/{{dataset}}/benchmarks/dataset.tsv"
    group:
        "data"
    conda:
        "../envs/phasevae.yaml"
    threads: 1
    resources:
        **CLUSTER["jobs"],
        mem_mb=each_attempt(4000),
        runtime=each_attempt(120),
    params:
        kind=lambda wildcards: DATASETS[wildcards.dataset]["kind"],
        hp=lambda wildcards: canonical_json(dataset_options(DATASETS[wildcards.dataset])),
        code=lambda wildcards: stage_code("dataset", DATASETS[wildcards.dataset]["kind"]),
        folder=subpath(output.record, parent=True),
    message:
        "{wildcards.dataset}: make the data"
    shell:
        "phasevae dataset {params.kind} --options {params.hp:q} -o {params.folder} > {log} 2>&1"
