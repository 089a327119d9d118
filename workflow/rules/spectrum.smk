rule spectrum:
    input:
        data=f"{RESULTS}/{{dataset}}/data.npy",
        record=f"{RESULTS}/{{dataset}}/data.json",
    output:
        f"{RESULTS}/{{dataset}}/spectrum.json",
    log:
        f"{RESULTS}/{{dataset}}/logs/spectrum.log",
    benchmark:
        f"{RESULTS}/{{dataset}}/benchmarks/spectrum.tsv"
    group:
        "data"
    conda:
        "../envs/phasevae.yaml"
    threads: 1
    resources:
        **CLUSTER["jobs"],
        mem_mb=each_attempt(2500),
        runtime=each_attempt(60),
    params:
        code=source_hash("phasevae.spectrum"),
        folder=subpath(input.record, parent=True),
    message:
        "{wildcards.dataset}: covariance spectrum"
    shell:
        "phasevae spectrum {params.folder} -o {output} > {log} 2>&1"
