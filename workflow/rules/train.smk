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
        hp=lambda wildcards: canonical_json(grid_keys(settings_of(wildcards))),
        code=stage_code("plan"),
        # The settings of the training serve the printed estimate alone.
        settings=lambda wildcards, input: canonical_json(plan_keys(settings_of(wildcards))),
    message:
        "{wildcards.dataset}: list the points of the sweep in {output}"
    shell:
        "phasevae plan --settings {params.settings:q} -o {output} > {log} 2>&1"


# Each bucket has a rule of its own, so that each knows its points: a new point is a missing output of its bucket alone.
# update() leaves the files of the other points in place, and the command keeps those whose stored digest is still right.
# The points come through the param `plan` and not from plan.csv. Every change of the grid rewrites that file: as an
# input it would run all buckets again, and as ancient() it would hide changed params from Snakemake.
# Neither a point that the grid no longer has, nor another number of buckets, nor another device is a reason to train
# again, so these params are functions of the input.
for sweep in OUTPUTS.sweeps:
    for bucket, points in sweep.buckets.items():

        rule:
            name:
                sweep.rule(bucket)
            input:
                data=f"{RESULTS}/{sweep.dataset}/data.npy",
                record=f"{RESULTS}/{sweep.dataset}/data.json",
                spectrum=f"{RESULTS}/{sweep.dataset}/spectrum.json",
            output:
                # Snakemake searches the outputs in their order; `collect` asks for the flags and each point.json.
                touch(sweep.complete_flags(points)),
                update(sweep.point_files(points)),
            log:
                f"{sweep.folder}logs/train_{bucket}.log",
            benchmark:
                f"{sweep.folder}benchmarks/train_{bucket}.tsv"
            conda:
                "../envs/phasevae.yaml"
            threads: CONFIG["train_threads"]
            resources:
                **training_resources(
                    lambda wildcards, input, sweep=sweep, count=len(points): OUTPUTS.bucket_cost(sweep, count)
                ),
            params:
                hp=canonical_json(train_keys(sweep.settings)),
                code=training_code(sweep.settings),
                network=lambda wildcards, input, option=network_option(sweep.settings): option,
                plan=lambda wildcards, input, plan=sweep.bucket_plans[bucket]: plan,
                bucket=lambda wildcards, input, bucket=bucket: bucket,
                folder=subpath(input.record, parent=True),
                part=sweep.part,
                device=lambda wildcards, input: CONFIG["device"],
                checkpoint=lambda wildcards, input: CONFIG["checkpoint_seconds"],
                memory=data_memory_option,
            message:
                f"{sweep.dataset}{', second pass' if sweep.part else ''}: train bucket {bucket} ({len(points)} points)"
            shell:
                "phasevae train {params.folder} --plan /dev/stdin --bucket {params.bucket}"
                " --spectrum {input.spectrum} --settings {params.hp:q} {params.network}"
                " --device {params.device} --threads {threads} --checkpoint-seconds {params.checkpoint}{params.memory}"
                " -o {params.folder}/{params.part}"
                " > {log} 2>&1 <<< {params.plan:q}"
