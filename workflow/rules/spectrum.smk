rule spectrum:
    input:
        data=f"{RESULTS}/{{dataset}}/data.npy",
        record=f"{RESULTS}/{{dataset}}/data.json",
        module=lambda wildcards: OUTPUTS.own_likelihood(wildcards.dataset),
    output:
        f"{RESULTS}/{{dataset}}/spectrum.json",
    log:
        f"{RESULTS}/{{dataset}}/logs/spectrum.log",
    benchmark:
        f"{RESULTS}/{{dataset}}/benchmarks/spectrum.tsv"
    wildcard_constraints:
        dataset=OUTPUTS.names_where(lambda settings: settings["shards"] == 1),
    group:
        "data"
    conda:
        "../envs/phasevae.yaml"
    threads: 1
    resources:
        **CLUSTER["jobs"],
        mem_mb=matrices(8),
        runtime=each_attempt(60),
    params:
        code=lambda wildcards: stage_code("scores" if sweeps_beta(wildcards.dataset) else "spectrum"),
        likelihood=lambda wildcards: OUTPUTS.likelihood_options(wildcards.dataset),
        folder=subpath(input.record, parent=True),
    message:
        "{wildcards.dataset}: compute the covariance spectrum"
    shell:
        "phasevae spectrum {params.folder} {params.likelihood} -o {output} > {log} 2>&1"
