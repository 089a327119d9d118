localrules:
    refine,


# The points to add are known once the sweep has been fitted, hence a checkpoint. Its plan holds the points of both
# stages. A second pass gets the same decoder variances as the first, from the fit of the first.
checkpoint refine:
    input:
        fit=f"{RESULTS}/{{dataset}}/coarse/fit.json",
        spectrum=f"{RESULTS}/{{dataset}}/spectrum.json",
    output:
        f"{RESULTS}/{{dataset}}/{{part}}refined.csv",
    log:
        f"{RESULTS}/{{dataset}}/{{part}}logs/refine.log",
    benchmark:
        f"{RESULTS}/{{dataset}}/{{part}}benchmarks/refine.tsv"
    conda:
        "../envs/phasevae.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        hp=lambda wildcards: canonical_json(refine_keys(settings_of(wildcards))),
        code=stage_code("refine"),
    message:
        "{wildcards.dataset}: choose further points around the transition and write {output}"
    shell:
        "phasevae refine {input.fit} --spectrum {input.spectrum} --settings {params.hp:q} -o {output} > {log} 2>&1"


# A bucket of the refined plan, which is trained after the same bucket of the first stage: the points they share are
# valid by then and are kept. The new points cannot be outputs, because Snakemake needs these before the checkpoint has
# run. A flag file stands for them, and the rule `collect` checks each point.
rule train_refined:
    input:
        data=f"{RESULTS}/{{dataset}}/data.npy",
        record=f"{RESULTS}/{{dataset}}/data.json",
        spectrum=f"{RESULTS}/{{dataset}}/spectrum.json",
        plan=f"{RESULTS}/{{dataset}}/{{part}}refined.csv",
        # The points of the first stage in this bucket, because two jobs must not train the same points at once.
        # ancient(): that the first stage was trained again is no reason to train this bucket again.
        first=lambda wildcards: ancient(OUTPUTS.first_stage(**wildcards)),
    output:
        touch(f"{RESULTS}/{{dataset}}/{{part}}refined/bucket={{bucket}}.done"),
    log:
        f"{RESULTS}/{{dataset}}/{{part}}logs/train_refined_{{bucket}}.log",
    benchmark:
        f"{RESULTS}/{{dataset}}/{{part}}benchmarks/train_refined_{{bucket}}.tsv"
    conda:
        "../envs/phasevae.yaml"
    threads: CONFIG["train_threads"]
    resources:
        **training_resources(
            lambda wildcards, input: OUTPUTS.bucket_cost(
                OUTPUTS.sweep(**wildcards), planned_points(input.plan, int(wildcards.bucket))
            )
        ),
    params:
        hp=lambda wildcards: canonical_json(train_keys(settings_of(wildcards))),
        code=lambda wildcards: training_code(settings_of(wildcards)),
        network=lambda wildcards, input: network_option(settings_of(wildcards)),
        data=subpath(input.record, parent=True),
        folder=subpath(input.plan, parent=True),
        device=lambda wildcards, input: CONFIG["device"],
        checkpoint=lambda wildcards, input: CONFIG["checkpoint_seconds"],
        memory=data_memory_option,
    message:
        "{wildcards.dataset}: train the points that {input.plan} adds to bucket {wildcards.bucket}"
    shell:
        "phasevae train {params.data} --plan {input.plan} --bucket {wildcards.bucket} --spectrum {input.spectrum}"
        " --settings {params.hp:q} {params.network} --device {params.device} --threads {threads}"
        " --checkpoint-seconds {params.checkpoint}{params.memory} -o {params.folder} > {log} 2>&1"
