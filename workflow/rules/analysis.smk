rule collect:
    input:
        plan=f"{RESULTS}/{{dataset}}/plan.csv",
        record=f"{RESULTS}/{{dataset}}/data.json",
        spectrum=f"{RESULTS}/{{dataset}}/spectrum.json",
        points=lambda wildcards: [
            f"{RESULTS}/{wildcards.dataset}/{point.path}/point.json"
            for point in make_plan(DATASETS[wildcards.dataset])
        ],
    output:
        sweep=report(
            f"{RESULTS}/{{dataset}}/sweep.csv",
            caption="../report/sweep.rst",
            category="{dataset}",
            subcategory="Tables",
            labels={"item": "Sweep"},
        ),
        dimensions=f"{RESULTS}/{{dataset}}/dimensions.csv",
        timing=f"{RESULTS}/{{dataset}}/timing.csv",
        histories=f"{RESULTS}/{{dataset}}/histories.csv",
    log:
        f"{RESULTS}/{{dataset}}/logs/collect.log",
    benchmark:
        f"{RESULTS}/{{dataset}}/benchmarks/collect.tsv"
    conda:
        "../envs/phasevae.yaml"
    threads: 1
    resources:
        mem_mb=2500,
        runtime=30,
    params:
        hp=lambda wildcards: canonical_json(training_keys(DATASETS[wildcards.dataset])),
        code=source_hash("phasevae.collect"),
        folder=subpath(input.record, parent=True),
    message:
        "{wildcards.dataset}: collect the points"
    shell:
        "phasevae collect --plan {input.plan} --settings {params.hp:q} --data {params.folder}"
        " --spectrum {input.spectrum} -o {output.sweep} --dimensions {output.dimensions} --timing {output.timing}"
        " --histories {output.histories} > {log} 2>&1"


rule hysteresis:
    input:
        data=f"{RESULTS}/{{dataset}}/data.npy",
        record=f"{RESULTS}/{{dataset}}/data.json",
        spectrum=f"{RESULTS}/{{dataset}}/spectrum.json",
    output:
        f"{RESULTS}/{{dataset}}/hysteresis.csv",
    log:
        f"{RESULTS}/{{dataset}}/logs/hysteresis.log",
    benchmark:
        f"{RESULTS}/{{dataset}}/benchmarks/hysteresis.tsv"
    conda:
        "../envs/phasevae.yaml"
    threads: CONFIG["train_threads"]
    resources:
        mem_mb=memory,
        runtime=720,
    params:
        hp=lambda wildcards: canonical_json(training_keys(DATASETS[wildcards.dataset])),
        ratio=lambda wildcards: ",".join(map(repr, sorted(DATASETS[wildcards.dataset]["hysteresis_ratio"]))),
        seeds=lambda wildcards: ",".join(map(str, sorted(DATASETS[wildcards.dataset]["seeds"]))),
        code=canonical_json([source_hash("phasevae.branches"), training_code_hash()]),
        folder=subpath(input.record, parent=True),
        # A function of the input is not compared: where it was trained is no reason to train again.
        device=lambda wildcards, input: CONFIG["device"],
    message:
        "{wildcards.dataset}: sweep upwards from active models"
    shell:
        "phasevae hysteresis {params.folder} --ratio {params.ratio} --seeds {params.seeds} --settings {params.hp:q}"
        " --spectrum {input.spectrum} --device {params.device} --threads {threads} -o {output} > {log} 2>&1"


rule fit:
    input:
        sweep=f"{RESULTS}/{{dataset}}/sweep.csv",
        spectrum=f"{RESULTS}/{{dataset}}/spectrum.json",
        dimensions=f"{RESULTS}/{{dataset}}/dimensions.csv",
        histories=f"{RESULTS}/{{dataset}}/histories.csv",
        hysteresis=upward_sweep,
    output:
        report(
            f"{RESULTS}/{{dataset}}/fit.json",
            caption="../report/fit.rst",
            category="{dataset}",
            subcategory="Tables",
            labels={"item": "Critical variance"},
        ),
    log:
        f"{RESULTS}/{{dataset}}/logs/fit.log",
    benchmark:
        f"{RESULTS}/{{dataset}}/benchmarks/fit.tsv"
    conda:
        "../envs/phasevae.yaml"
    threads: 1
    resources:
        mem_mb=2500,
        runtime=30,
    params:
        code=source_hash("phasevae.analysis.transition"),
        hysteresis=lambda wildcards, input: f"--hysteresis {input.hysteresis}" if input.hysteresis else "",
    message:
        "{wildcards.dataset}: fit the transition"
    shell:
        "phasevae fit {input.sweep} --spectrum {input.spectrum} --dimensions {input.dimensions}"
        " --histories {input.histories} {params.hysteresis} -o {output} > {log} 2>&1"
