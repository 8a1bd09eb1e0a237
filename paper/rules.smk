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
        perplexity=rules.plot_perplexity.output,
        c_total=rules.plot_c_total.output,
        closeness=rules.plot_closeness.output,
        turning=rules.plot_turning.output,
        terms=rules.plot_terms.output,
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
