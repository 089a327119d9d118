def figure_group(figure):
    """The SLURM job that a figure is part of: the one that makes the last of its inputs."""
    needs = set(FIGURES[figure].needs)
    return None if not needs else "data" if needs == {"spectrum"} else "tables"


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
        group:
            figure_group(figure)
        # A figure of theory alone needs no other job: it is too short for one of its own.
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
            code=source_hash("phasevae.figures"),
            options=lambda wildcards, input: " ".join(f"--{key} {path}" for key, path in input.items()),
            stem=subpath(output.png, strip_suffix=".png"),
        message:
            f"{{wildcards.dataset}}: figure {figure}"
        shell:
            "phasevae plot {params.figure} {params.options} -o {params.stem} > {log} 2>&1"
