from pathlib import Path

SECTIONS = sorted(map(str, Path("paper/sections").glob("*.typ")))
# what the text shows and reads; records of noise scales are drawn once there are any
SHOWN = [
    f"{R}/{file}"
    for file in files_of_article("paper/helpers.typ", *SECTIONS)
    if NOISE_TABLES["records_"] or file != "analysis/records_plot_noise_scale.svg"
]


rule article:
    input:
        sources("analysis.article"),
        SECTIONS,
        SHOWN,
        "paper/helpers.typ",
        "paper/figures.yaml",
        "paper/references.bib",
        source="paper/article.typ",
    output:
        f"{R}/paper/article.pdf",
    log:
        f"{R}/logs/paper/article.log",
    benchmark:
        f"{R}/benchmarks/paper/article.tsv"
    conda:
        "../envs/paper.yaml"
    shell:
        "python -m analysis.article --source {input.source:q} --out {output:q} > {log:q} 2>&1"
