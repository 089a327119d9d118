rule collect:
    input:
        plan=plan_of_table,
        record=f"{RESULTS}/{{dataset}}/data.json",
        spectrum=f"{RESULTS}/{{dataset}}/spectrum.json",
        points=lambda wildcards: OUTPUTS.points_of_table(plan_of_table(wildcards), **wildcards),
    output:
        sweep=report(
            f"{RESULTS}/{{dataset}}/{{part}}sweep.csv",
            caption="../report/sweep.rst",
            category="{dataset}",
            subcategory="Tables",
            labels=labels("Sweep"),
        ),
        dimensions=report(
            f"{RESULTS}/{{dataset}}/{{part}}dimensions.csv",
            caption="../report/dimensions.rst",
            category="{dataset}",
            subcategory="Tables",
            labels=labels("Dimensions"),
        ),
        timing=f"{RESULTS}/{{dataset}}/{{part}}timing.csv",
        histories=f"{RESULTS}/{{dataset}}/{{part}}histories.csv",
    log:
        f"{RESULTS}/{{dataset}}/{{part}}logs/collect.log",
    benchmark:
        f"{RESULTS}/{{dataset}}/{{part}}benchmarks/collect.tsv"
    group:
        "tables"
    conda:
        "../envs/phasevae.yaml"
    threads: 1
    resources:
        **CLUSTER["jobs"],
        mem_mb=each_attempt(2500),
        runtime=each_attempt(30),
    params:
        hp=lambda wildcards: canonical_json(training_keys(settings_of(wildcards))),
        code=stage_code("collect"),
        # As the rules of the training. If one of these fails, Snakemake takes its earlier points for new ones; then this
        # rule is still to be run, and it needs the flags of the points.
        training=lambda wildcards: canonical_json(train_keys(settings_of(wildcards))),
        training_code=lambda wildcards: training_code(settings_of(wildcards)),
        network=lambda wildcards, input: network_option(settings_of(wildcards)),
        folder=subpath(input.record, parent=True),
    message:
        "{wildcards.dataset}: collect the trained points in {output.sweep}"
    shell:
        "phasevae collect --plan {input.plan} --settings {params.hp:q} {params.network} --data {params.folder}"
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
        **training_resources(lambda wildcards, input: OUTPUTS.upward_cost(wildcards.dataset)),
    params:
        hp=lambda wildcards: canonical_json(training_keys(DATASETS[wildcards.dataset])),
        ratio=lambda wildcards: ",".join(map(repr, sorted(DATASETS[wildcards.dataset]["hysteresis_ratio"]))),
        seeds=lambda wildcards: ",".join(map(str, sorted(DATASETS[wildcards.dataset]["seeds"]))),
        beta=lambda wildcards: (
            "" if sweeps_beta(wildcards.dataset) else f"--beta {DATASETS[wildcards.dataset]['beta']!r}"
        ),
        code=lambda wildcards: f"{stage_code('hysteresis')} {training_code(DATASETS[wildcards.dataset])}",
        network=lambda wildcards, input: network_option(DATASETS[wildcards.dataset]),
        folder=subpath(input.record, parent=True),
        device=lambda wildcards, input: CONFIG["device"],
        memory=data_memory_option,
    message:
        "{wildcards.dataset}: train upwards from active models, for the hysteresis"
    shell:
        "phasevae hysteresis {params.folder} --ratio {params.ratio} --seeds {params.seeds} {params.beta} --settings {params.hp:q}"
        " {params.network} --spectrum {input.spectrum} --device {params.device} --threads {threads}{params.memory}"
        " -o {output} > {log} 2>&1"


rule fit:
    input:
        sweep=f"{RESULTS}/{{dataset}}/{{part}}sweep.csv",
        spectrum=f"{RESULTS}/{{dataset}}/spectrum.json",
        dimensions=f"{RESULTS}/{{dataset}}/{{part}}dimensions.csv",
        histories=f"{RESULTS}/{{dataset}}/{{part}}histories.csv",
        hysteresis=lambda wildcards: OUTPUTS.upward_sweep(**wildcards),
    output:
        report(
            f"{RESULTS}/{{dataset}}/{{part}}fit.json",
            caption="../report/fit.rst",
            category="{dataset}",
            subcategory="Tables",
            labels=labels("Critical variance"),
        ),
    log:
        f"{RESULTS}/{{dataset}}/{{part}}logs/fit.log",
    benchmark:
        f"{RESULTS}/{{dataset}}/{{part}}benchmarks/fit.tsv"
    group:
        "tables"
    conda:
        "../envs/phasevae.yaml"
    threads: 1
    resources:
        **CLUSTER["jobs"],
        mem_mb=each_attempt(2500),
        runtime=each_attempt(30),
    params:
        code=stage_code("fit"),
        converged=lambda wildcards: "--converged-only" if DATASETS[wildcards.dataset]["converged_only"] else "",
        hysteresis=lambda wildcards, input: f"--hysteresis {input.hysteresis}" if input.hysteresis else "",
    message:
        "{wildcards.dataset}: fit the critical variance and write {output}"
    shell:
        "phasevae fit {input.sweep} --spectrum {input.spectrum} --dimensions {input.dimensions}"
        " --histories {input.histories} {params.hysteresis} {params.converged} -o {output} > {log} 2>&1"


rule bracket:
    input:
        first=f"{RESULTS}/{{dataset}}/sweep.csv",
        second=f"{RESULTS}/{{dataset}}/second/sweep.csv",
        spectrum=f"{RESULTS}/{{dataset}}/spectrum.json",
    output:
        table=report(
            f"{RESULTS}/{{dataset}}/bracketing.csv",
            caption="../report/bracketing_table.rst",
            category="{dataset}",
            subcategory="Tables",
            labels={"item": "Bracketing"},
        ),
        summary=report(
            f"{RESULTS}/{{dataset}}/bracketing.json",
            caption="../report/bracketing_summary.rst",
            category="{dataset}",
            subcategory="Tables",
            labels={"item": "Critical variance of both passes"},
        ),
    log:
        f"{RESULTS}/{{dataset}}/logs/bracket.log",
    benchmark:
        f"{RESULTS}/{{dataset}}/benchmarks/bracket.tsv"
    group:
        "tables"
    conda:
        "../envs/phasevae.yaml"
    threads: 1
    resources:
        **CLUSTER["jobs"],
        mem_mb=each_attempt(2500),
        runtime=each_attempt(30),
    params:
        code=stage_code("bracket"),
    message:
        "{wildcards.dataset}: compare the two passes and bracket the critical variance"
    shell:
        "phasevae bracket {input.first} {input.second} --spectrum {input.spectrum}"
        " -o {output.table} --summary {output.summary} > {log} 2>&1"
