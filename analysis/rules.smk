rule plot_c_total:
    input:
        sources("analysis.plot_c_total"),
    output:
        f"{R}/analysis/plot_c_total.svg",
    params:
        settings=flags(config["analysis"]["plot_c_total"]),
    log:
        f"{R}/logs/analysis/plot_c_total.log",
    benchmark:
        f"{R}/benchmarks/analysis/plot_c_total.tsv"
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=2000,
        runtime=10,
    shell:
        "python -m analysis.plot_c_total {params.settings} --out {output} > {log} 2>&1"


rule plot_expectation:
    input:
        sources("analysis.plot_expectation"),
        tables=[f"{R}/sim/expectation/b{case['batch_size']}_beta2-{case['beta2']}.csv" for case in EXPECTATION_GRID],
    output:
        figure=f"{R}/analysis/plot_expectation.svg",
        summary=f"{R}/analysis/plot_expectation.csv",
    log:
        f"{R}/logs/analysis/plot_expectation.log",
    benchmark:
        f"{R}/benchmarks/analysis/plot_expectation.tsv"
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=2000,
        runtime=10,
    shell:
        "python -m analysis.plot_expectation --tables {input.tables} --out {output.figure}"
        " --summary {output.summary} > {log} 2>&1"


rule plot_perplexity:
    input:
        sources("analysis.plot_perplexity"),
        tables=[f"{panel}_evaluations.csv" for panel in PANELS if "/beta2_" in panel],
    output:
        figure=f"{R}/analysis/plot_perplexity.svg",
        summary=f"{R}/analysis/plot_perplexity.csv",
    log:
        f"{R}/logs/analysis/plot_perplexity.log",
    benchmark:
        f"{R}/benchmarks/analysis/plot_perplexity.tsv"
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=2000,
        runtime=10,
    shell:
        "python -m analysis.plot_perplexity --tables {input.tables} --out {output.figure}"
        " --summary {output.summary} > {log} 2>&1"


rule plot_closeness:
    input:
        sources("analysis.plot_closeness"),
        table=rules.sim_closeness.output,
    output:
        f"{R}/analysis/plot_closeness.svg",
    log:
        f"{R}/logs/analysis/plot_closeness.log",
    benchmark:
        f"{R}/benchmarks/analysis/plot_closeness.tsv"
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=2000,
        runtime=10,
    shell:
        "python -m analysis.plot_closeness --tables {input.table} --out {output} > {log} 2>&1"


rule plot_turning:
    input:
        sources("analysis.plot_turning"),
        map=rules.sim_turning.output.map,
        turning=rules.sim_turning.output.turning,
    output:
        f"{R}/analysis/plot_turning.svg",
    params:
        settings=flags(config["analysis"]["plot_turning"]),
    log:
        f"{R}/logs/analysis/plot_turning.log",
    benchmark:
        f"{R}/benchmarks/analysis/plot_turning.tsv"
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=2000,
        runtime=10,
    shell:
        "python -m analysis.plot_turning --map {input.map} --turning {input.turning} {params.settings}"
        " --out {output} > {log} 2>&1"


rule plot_invariance:
    input:
        sources("analysis.plot_invariance"),
        slopes=rules.sim_invariance.output.slopes,
        spread=rules.sim_invariance.output.spread,
    output:
        figure=f"{R}/analysis/plot_invariance.svg",
        summary=f"{R}/analysis/plot_invariance.json",
    log:
        f"{R}/logs/analysis/plot_invariance.log",
    benchmark:
        f"{R}/benchmarks/analysis/plot_invariance.tsv"
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=2000,
        runtime=10,
    shell:
        "python -m analysis.plot_invariance --slopes {input.slopes} --spread {input.spread} --out {output.figure}"
        " --summary {output.summary} > {log} 2>&1"


rule plot_terms:
    input:
        sources("analysis.plot_terms"),
        tables=[f"{R}/sim/terms/{case}.csv" for case in config["analysis"]["plot_terms"]["cases"]],
    output:
        figure=f"{R}/analysis/plot_terms.svg",
        summary=f"{R}/analysis/plot_terms.csv",
    log:
        f"{R}/logs/analysis/plot_terms.log",
    benchmark:
        f"{R}/benchmarks/analysis/plot_terms.tsv"
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=2000,
        runtime=10,
    shell:
        "python -m analysis.plot_terms --tables {input.tables} --out {output.figure}"
        " --summary {output.summary} > {log} 2>&1"


VISION_TABLES = {
    study: [f"{R}/train/vision/{case}.csv" for case in cases]
    for study, cases in config["analysis"]["plot_vision"].items()
}


rule plot_vision:
    input:
        sources("analysis.plot_vision"),
        **VISION_TABLES,
    output:
        figure=f"{R}/analysis/plot_vision.svg",
        numbers=f"{R}/analysis/plot_vision.json",
    params:
        tables=flags({study: tables for study, tables in VISION_TABLES.items() if tables}),
    log:
        f"{R}/logs/analysis/plot_vision.log",
    benchmark:
        f"{R}/benchmarks/analysis/plot_vision.tsv"
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=2000,
        runtime=10,
    shell:
        "python -m analysis.plot_vision {params.tables} --out {output.figure} --numbers {output.numbers} > {log} 2>&1"


rule certify:
    input:
        sources("analysis.certify"),
    output:
        f"{R}/analysis/certify.csv",
    log:
        f"{R}/logs/analysis/certify.log",
    benchmark:
        f"{R}/benchmarks/analysis/certify.tsv"
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=2000,
        runtime=10,
    shell:
        "python -m analysis.certify --format csv --out {output} > {log} 2>&1"


rule article_numbers:
    input:
        sources("analysis.article_numbers"),
        expectation=rules.plot_expectation.output.summary,
        perplexity=rules.plot_perplexity.output.summary,
        certify=rules.certify.output,
        closeness=rules.sim_closeness.output,
        turning=rules.sim_turning.output.turning,
        map=rules.sim_turning.output.map,
        terms=expand(f"{R}/sim/terms/{{case}}.csv", case=TERMS),
        runs=[f"{panel}.json" for panel in PANELS],
    output:
        f"{R}/analysis/article_numbers.json",
    log:
        f"{R}/logs/analysis/article_numbers.log",
    benchmark:
        f"{R}/benchmarks/analysis/article_numbers.tsv"
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=2000,
        runtime=10,
    shell:
        "python -m analysis.article_numbers --expectation {input.expectation} --perplexity {input.perplexity}"
        " --certify {input.certify} --closeness {input.closeness} --map {input.map} --turning {input.turning}"
        " --terms {input.terms} --runs {input.runs} --out {output} > {log} 2>&1"
