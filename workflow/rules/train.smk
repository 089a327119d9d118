localrules:
    plan,


rule plan:
    output:
        f"{RESULTS}/{{dataset}}/{{part}}plan.csv",
    log:
        f"{RESULTS}/{{dataset}}/{{part}}logs/plan.log",
    benchmark:
        f"{RESULTS}/{{dataset}}/{{part}}benchmarks/plan.tsv"
    conda:
        "../envs/phasevae.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        hp=lambda wildcards: canonical_json(grid_keys(settings_of(**wildcards))),
        code=stage_code("plan"),
        # A function of the input is not compared: the training is for the estimate alone, which is printed.
        settings=lambda wildcards, input: canonical_json(plan_keys(settings_of(**wildcards))),
    message:
        "plan the points of {wildcards.dataset}/{wildcards.part}"
    shell:
        "phasevae plan --settings {params.settings:q} -o {output} > {log} 2>&1"


# One rule a bucket, so that each knows its own points: a new point is a missing output of its bucket alone. update()
# leaves the other points' files in place, and the command keeps those whose stored digest is still right.
# The points come through `plan`, not from plan.csv: every change of the grid rewrites that file, and as an input it
# would run all buckets again, or, as ancient(), keep Snakemake from looking at their params whenever it is rewritten.
# What is a function of the input is not compared: neither a point that is no longer asked for, nor another number of
# buckets, nor where it was trained is a reason to run again.
for name, part in PASSES:
    settings = settings_of(name, part)
    for bucket, points in buckets(settings).items():

        rule:
            name:
                f"{'second' if part else 'train'}_{name}_{bucket}"
            input:
                data=f"{RESULTS}/{name}/data.npy",
                record=f"{RESULTS}/{name}/data.json",
                spectrum=f"{RESULTS}/{name}/spectrum.json",
            output:
                update(point_files(points, name, part)),
            log:
                f"{RESULTS}/{name}/{part}logs/train_{bucket}.log",
            benchmark:
                f"{RESULTS}/{name}/{part}benchmarks/train_{bucket}.tsv"
            conda:
                "../envs/phasevae.yaml"
            threads: CONFIG["train_threads"]
            resources:
                **training_resources(
                    lambda wildcards, input, shape, job=(settings, len(points)): bucket_cost(*job, shape)
                ),
            params:
                hp=canonical_json(train_keys(settings)),
                code=training_code(settings),
                plan=lambda wildcards, input, argument=plan_argument(name, points): argument,
                bucket=lambda wildcards, input, bucket=bucket: bucket,
                folder=subpath(input.record, parent=True),
                part=part,
                device=lambda wildcards, input: CONFIG["device"],
                checkpoint=lambda wildcards, input: CONFIG["checkpoint_seconds"],
            message:
                f"train bucket {bucket} of {name}/{part} ({len(points)} points)"
            shell:
                "phasevae train {params.folder} --plan /dev/stdin --bucket {params.bucket}"
                " --spectrum {input.spectrum} --settings {params.hp:q}"
                " --device {params.device} --threads {threads} --checkpoint-seconds {params.checkpoint}"
                " -o {params.folder}/{params.part}"
                " > {log} 2>&1 <<< {params.plan:q}"
