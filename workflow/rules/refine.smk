localrules:
    refine,


# Which points are worth adding is known only once the sweep has been fitted: a checkpoint. Its plan holds the points
# of both stages. A second pass goes over the same decoder variances, those of the first pass's fit.
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
        hp=lambda wildcards: canonical_json(refine_keys(settings_of(**wildcards))),
        code=stage_code("refine"),
    message:
        "refine the grid of {wildcards.dataset}/{wildcards.part}"
    shell:
        "phasevae refine {input.fit} --spectrum {input.spectrum} --settings {params.hp:q} -o {output} > {log} 2>&1"


# A bucket of the refined plan, after that of the first stage: the points they share are valid then and kept. Its points have no rule of
# their own, as rules are made before the checkpoint: a flag stands for them, and the collecting checks each.
rule train_refined:
    input:
        data=f"{RESULTS}/{{dataset}}/data.npy",
        record=f"{RESULTS}/{{dataset}}/data.json",
        spectrum=f"{RESULTS}/{{dataset}}/spectrum.json",
        plan=f"{RESULTS}/{{dataset}}/{{part}}refined.csv",
        # Two jobs must not train the same points at once; that the first stage was trained again is no reason for this.
        first=first_stage,
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
        **training_resources(refined_cost),
    params:
        hp=lambda wildcards: canonical_json(train_keys(settings_of(**wildcards))),
        code=lambda wildcards: training_code(settings_of(**wildcards)),
        data=subpath(input.record, parent=True),
        folder=subpath(input.plan, parent=True),
        # A function of the input is not compared: where it was trained is no reason to train again.
        device=lambda wildcards, input: CONFIG["device"],
        checkpoint=lambda wildcards, input: CONFIG["checkpoint_seconds"],
    message:
        "train bucket {wildcards.bucket} of the refined {wildcards.dataset}/{wildcards.part}"
    shell:
        "phasevae train {params.data} --plan {input.plan} --bucket {wildcards.bucket} --spectrum {input.spectrum}"
        " --settings {params.hp:q} --device {params.device} --threads {threads} --checkpoint-seconds {params.checkpoint}"
        " -o {params.folder} > {log} 2>&1"
