localrules:
    manifest,


# The last job: it lists every file with its digest, for `phasevae verify` and `phasevae export`.
rule manifest:
    input:
        OUTPUTS.deliverables(*CONFIG["run"]),
    output:
        f"{RESULTS}/manifest.json",
    log:
        f"{RESULTS}/logs/manifest.log",
    benchmark:
        f"{RESULTS}/benchmarks/manifest.tsv"
    conda:
        "../envs/phasevae.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=30,
    params:
        folder=subpath(output[0], parent=True),
        names=",".join(CONFIG["run"]),
    message:
        "list all files of {params.names} with their digests in {output}"
    shell:
        "phasevae manifest {params.folder} --datasets {params.names} -o {output} > {log} 2>&1"
