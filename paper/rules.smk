from pathlib import Path


rule article:
    input:
        sources("analysis.article"),
        source="paper/article.typ",
        sections=["paper/helpers.typ", *sorted(map(str, Path("paper/sections").glob("*.typ")))],
        bibliography="paper/references.bib",
        numbers=rules.article_numbers.output,
        certify=rules.certify.output,
        expectation=rules.plot_expectation.output,
        sweep=expand(f"{R}/analysis/plot_sweep_{{curve}}.svg", curve=SWEEP["curves"]),
        best_beta2=f"{R}/analysis/plot_best_beta2.svg",
        noise_scale=f"{R}/analysis/plot_noise_scale.svg",
        # of what is recorded from the published experiment; without records the article shows what is missing
        recorded_sweep=expand(f"{R}/analysis/records_plot_sweep_{{curve}}.svg", curve=SWEEPS["records_"]["curves"]),
        recorded_best_beta2=f"{R}/analysis/records_plot_best_beta2.svg",
        recorded_noise_scale=f"{R}/analysis/records_plot_noise_scale.svg" if NOISE_TABLES["records_"] else [],
        c_total=rules.plot_c_total.output,
        closeness=rules.plot_closeness.output,
        turning=rules.plot_turning.output,
        terms=rules.plot_terms.output,
        generalization=rules.feature_noise_verdicts.output,
        generalization_figures=[
            *expand(f"{R}/analysis/plot_feature_noise/published_{{part}}.svg", part=["alignments", "batch", "decay", "confounders"]),
            f"{R}/analysis/plot_feature_noise/here_decay.svg",
        ],
        invariance=rules.plot_invariance.output,
        vision=rules.plot_image_sweep.output,
    output:
        f"{R}/paper/article.pdf",
    log:
        f"{R}/logs/paper/article.log",
    benchmark:
        f"{R}/benchmarks/paper/article.tsv"
    conda:
        "../envs/paper.yaml"
    resources:
        mem_mb=2000,
        runtime=10,
    shell:
        "python -m analysis.article --source {input.source} --out {output} > {log} 2>&1"
