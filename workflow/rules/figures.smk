for figure in FIGURES:

    rule:
        name:
            f"figure_{figure}"
        input:
            **{key: f"{RESULTS}/{{dataset}}/{FIGURE_INPUTS[key]}" for key in FIGURES[figure].needs},
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
        conda:
            "../envs/phasevae.yaml"
        threads: 1
        resources:
            mem_mb=2500,
            runtime=30,
        params:
            figure=figure,
            code=stage_code("figure", figure),
            options=lambda wildcards, input: " ".join(f"--{key} {path}" for key, path in input.items()),
            stem=subpath(output.png, strip_suffix=".png"),
        message:
            f"{{wildcards.dataset}}: figure {figure}"
        shell:
            "phasevae plot {params.figure} {params.options} -o {params.stem} > {log} 2>&1"
