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
        " > {log} 2>&1"


rule fit:
    input:
        sweep=f"{RESULTS}/{{dataset}}/sweep.csv",
        spectrum=f"{RESULTS}/{{dataset}}/spectrum.json",
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
        code=source_hash("phasevae.analysis.critical"),
    message:
        "{wildcards.dataset}: fit the transition"
    shell:
        "phasevae fit {input.sweep} --spectrum {input.spectrum} -o {output} > {log} 2>&1"
