# The spectrum of data in parts, each a job of its own; the result is the spectrum of the whole data. The first step
# computes means and covariances of the parts. The second computes, with the eigenvectors of the merged covariance, the
# parts' moments of higher order. Each part's file holds a D x D matrix and is removed once it is merged.
rule moments:
    input:
        data=f"{RESULTS}/{{dataset}}/data.npy",
        record=f"{RESULTS}/{{dataset}}/data.json",
    output:
        temp(OUTPUTS.shard("first")),
    log:
        f"{RESULTS}/{{dataset}}/logs/moments/{{shard}}of{{shards}}.log",
    benchmark:
        f"{RESULTS}/{{dataset}}/benchmarks/moments/{{shard}}of{{shards}}.tsv"
    conda:
        "../envs/phasevae.yaml"
    threads: 1
    resources:
        **CLUSTER["jobs"],
        mem_mb=matrices(4),
        runtime=each_attempt(60),
    params:
        code=stage_code("moments"),
        folder=subpath(input.record, parent=True),
    message:
        "{wildcards.dataset}: compute mean and covariance of part {wildcards.shard} of {wildcards.shards}"
    shell:
        "phasevae moments {params.folder} --shard {wildcards.shard}/{wildcards.shards} -o {output} > {log} 2>&1"


rule basis:
    input:
        lambda wildcards: OUTPUTS.shards(wildcards.dataset, "first"),
    output:
        basis=temp(f"{RESULTS}/{{dataset}}/shards/basis.safetensors"),
        spectrum=temp(f"{RESULTS}/{{dataset}}/shards/spectrum.json"),
    log:
        f"{RESULTS}/{{dataset}}/logs/basis.log",
    benchmark:
        f"{RESULTS}/{{dataset}}/benchmarks/basis.tsv"
    conda:
        "../envs/phasevae.yaml"
    threads: 1
    resources:
        **CLUSTER["jobs"],
        mem_mb=matrices(8),
        runtime=each_attempt(60),
    params:
        code=stage_code("moments"),
    message:
        "{wildcards.dataset}: merge the covariances and compute the eigenvectors"
    shell:
        "phasevae spectrum --moments {input} --basis {output.basis} -o {output.spectrum} > {log} 2>&1"


rule shape:
    input:
        data=f"{RESULTS}/{{dataset}}/data.npy",
        record=f"{RESULTS}/{{dataset}}/data.json",
        basis=f"{RESULTS}/{{dataset}}/shards/basis.safetensors",
    output:
        temp(OUTPUTS.shard("second")),
    log:
        f"{RESULTS}/{{dataset}}/logs/shape/{{shard}}of{{shards}}.log",
    benchmark:
        f"{RESULTS}/{{dataset}}/benchmarks/shape/{{shard}}of{{shards}}.tsv"
    conda:
        "../envs/phasevae.yaml"
    threads: 1
    resources:
        **CLUSTER["jobs"],
        mem_mb=matrices(3),
        runtime=each_attempt(60),
    params:
        code=stage_code("moments"),
        folder=subpath(input.record, parent=True),
    message:
        "{wildcards.dataset}: compute higher moments of part {wildcards.shard} of {wildcards.shards}"
    shell:
        "phasevae moments {params.folder} --shard {wildcards.shard}/{wildcards.shards} --basis {input.basis}"
        " -o {output} > {log} 2>&1"


rule gather:
    input:
        lambda wildcards: OUTPUTS.shards(wildcards.dataset, "second"),
    output:
        f"{RESULTS}/{{dataset}}/spectrum.json",
    log:
        f"{RESULTS}/{{dataset}}/logs/spectrum.log",
    benchmark:
        f"{RESULTS}/{{dataset}}/benchmarks/spectrum.tsv"
    wildcard_constraints:
        dataset=OUTPUTS.names_where(lambda settings: settings["shards"] > 1),
    conda:
        "../envs/phasevae.yaml"
    threads: 1
    resources:
        **CLUSTER["jobs"],
        mem_mb=each_attempt(2500),
        runtime=each_attempt(60),
    params:
        code=stage_code("moments"),
    message:
        "{wildcards.dataset}: merge the parts into the covariance spectrum"
    shell:
        "phasevae spectrum --moments {input} -o {output} > {log} 2>&1"
