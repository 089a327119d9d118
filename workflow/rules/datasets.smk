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
