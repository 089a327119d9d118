localrules:
    plan,


rule plan:
    output:
        f"{RESULTS}/{{dataset}}/plan.csv",
    log:
        f"{RESULTS}/{{dataset}}/logs/plan.log",
    benchmark:
        f"{RESULTS}/{{dataset}}/benchmarks/plan.tsv"
    conda:
        "../envs/phasevae.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        hp=lambda wildcards: canonical_json(plan_keys(DATASETS[wildcards.dataset])),
        code=source_hash("phasevae.plan"),
    message:
        "{wildcards.dataset}: plan"
    shell:
        "phasevae plan --settings {params.hp:q} -o {output} > {log} 2>&1"


# One rule a bucket, so that each knows its own points: a new point changes `plan` of its bucket alone. update() leaves
# the other points' files in place, and the command keeps those whose stored digest is still right.
# The points come through `plan`, not from plan.csv: every change of the grid rewrites that file, and as an input it
# would run all buckets again, or, as ancient(), keep Snakemake from looking at their params whenever it is rewritten.
for name, settings in DATASETS.items():
    for bucket, points in buckets(settings).items():

        rule:
            name:
                f"train_{name}_{bucket}"
            input:
                data=f"{RESULTS}/{name}/data.npy",
                record=f"{RESULTS}/{name}/data.json",
                spectrum=f"{RESULTS}/{name}/spectrum.json",
            output:
                update(point_files(points, name)),
            log:
                f"{RESULTS}/{name}/logs/train_{bucket}.log",
            benchmark:
                f"{RESULTS}/{name}/benchmarks/train_{bucket}.tsv"
            conda:
                "../envs/phasevae.yaml"
            threads: CONFIG["train_threads"]
            resources:
                mem_mb=memory,
                runtime=720,
            params:
                hp=canonical_json(training_keys(settings)),
                plan=plan_text(points),
                code=training_code_hash(),
                bucket=bucket,
                folder=subpath(input.record, parent=True),
                # A function of the input is not compared: where it was trained is no reason to train again.
                device=lambda wildcards, input: CONFIG["device"],
            message:
                f"{name}: train bucket {bucket} ({len(points)} points)"
            shell:
                "phasevae train {params.folder} --plan /dev/stdin --bucket {params.bucket}"
                " --spectrum {input.spectrum} --settings {params.hp:q}"
                " --device {params.device} --threads {threads} -o {params.folder} > {log} 2>&1 <<< {params.plan:q}"
