for figure in FIGURES:

    rule:
        name:
            f"figure_{figure}"
        input:
            **OUTPUTS.figure_inputs(figure),
        output:
            pdf=f"{RESULTS}/{{dataset}}/figures/{figure}.pdf",
            png=report(
                f"{RESULTS}/{{dataset}}/figures/{figure}.png",
                caption=f"../report/{figure}.rst",
                category="{dataset}",
                subcategory="Figures",
                labels={"item": figure.replace("_", " ")},
            ),
        log:
            f"{RESULTS}/{{dataset}}/logs/figure_{figure}.log",
        benchmark:
            f"{RESULTS}/{{dataset}}/benchmarks/figure_{figure}.tsv"
        group:
            OUTPUTS.figure_group(figure)
        # A figure of theory alone needs no other job, and it takes too little time for a SLURM job of its own.
        localrule: not FIGURES[figure].needs
        conda:
            "../envs/phasevae.yaml"
        threads: 1
        resources:
            **CLUSTER["jobs"],
            mem_mb=each_attempt(2500),
            runtime=each_attempt(30),
        params:
            figure=figure,
            code=stage_code("figure", figure),
            options=lambda wildcards, input: " ".join(
                f"--{key.replace('_', '-')} {path}" for key, path in input.items()
            ),
            stem=subpath(output.png, strip_suffix=".png"),
        message:
            f"{{wildcards.dataset}}: draw the figure {figure}"
        shell:
            "phasevae plot {params.figure} {params.options} -o {params.stem} > {log} 2>&1"
