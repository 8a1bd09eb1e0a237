from common.config import load, recorded_tables, report_entry


rule plot_c_total:
    input:
        sources("analysis.plot_c_total"),
    output:
        report(f"{R}/analysis/plot_c_total.svg", **report_entry("plot_c_total", "C_total against the betas")),
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
        figure=report(f"{R}/analysis/plot_expectation.svg", **report_entry("plot_expectation", "E[Corr] over batch orders")),
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


# Sweeps are drawn twice by the same rules: those of this configuration, and the recorded ones ("records_") on the grid of
# the published experiment.
PUBLISHED = load("config/config.yaml", "config/full.yaml")
SWEEPS = {"": SWEEP, "records_": PUBLISHED["train"]["sweep"]}
BASELINES = {"": config["analysis"]["best_betas"], "records_": PUBLISHED["analysis"]["best_betas"]}
RUN_TABLES = {"": [f"{panel}.csv" for panel in PANELS], "records_": recorded_tables("records/train/sweep")}
NOISE_TABLES = {
    "": [f"{R}/train/noise_scale/{case}.csv" for case in config["analysis"]["plot_noise_scale"]["cases"]],
    "records_": recorded_tables("records/train/noise_scale"),
}


rule plot_sweep:
    input:
        sources("analysis.plot_sweep"),
        tables=lambda wildcards: RUN_TABLES[wildcards.scale],
    output:
        figure=report(
            f"{R}/analysis/{{scale}}plot_sweep_{{curve}}.svg",
            **report_entry("{scale}plot_sweep_{curve}", "Perplexity against {curve}"),
        ),
        summary=f"{R}/analysis/{{scale}}plot_sweep_{{curve}}.csv",
    params:
        grid=lambda wildcards: flags(
            {"swept": wildcards.curve, **SWEEPS[wildcards.scale]["curves"][wildcards.curve]}
            | {name: SWEEPS[wildcards.scale][name] for name in ("lr", "batch_size")}
        ),
    log:
        f"{R}/logs/analysis/{{scale}}plot_sweep_{{curve}}.log",
    benchmark:
        f"{R}/benchmarks/analysis/{{scale}}plot_sweep_{{curve}}.tsv"
    conda:
        "../envs/analysis.yaml"
    wildcard_constraints:
        scale="(records_)?",
        curve="beta[12]",
    resources:
        mem_mb=2000,
        runtime=10,
    shell:
        "python -m analysis.plot_sweep --tables {input.tables} {params.grid} --out {output.figure}"
        " --summary {output.summary} > {log} 2>&1"


rule best_betas:
    input:
        sources("analysis.best_betas"),
        tables=lambda wildcards: RUN_TABLES[wildcards.scale],
        published="analysis/published/table1.csv",
    output:
        f"{R}/analysis/{{scale}}best_betas_{{curve}}.csv",
    params:
        grid=lambda wildcards: flags(
            {"swept": wildcards.curve, **SWEEPS[wildcards.scale]["curves"][wildcards.curve]}
            | {name: SWEEPS[wildcards.scale][name] for name in ("lr", "batch_size")}
        ),
        baseline=lambda wildcards: flags({"baseline": BASELINES[wildcards.scale][wildcards.curve]}),
        published=lambda wildcards, input: (
            f"--published {input.published}" if (wildcards.scale, wildcards.curve) == ("records_", "beta2") else ""
        ),
    log:
        f"{R}/logs/analysis/{{scale}}best_betas_{{curve}}.log",
    benchmark:
        f"{R}/benchmarks/analysis/{{scale}}best_betas_{{curve}}.tsv"
    conda:
        "../envs/analysis.yaml"
    wildcard_constraints:
        scale="(records_)?",
        curve="beta[12]",
    resources:
        mem_mb=2000,
        runtime=10,
    shell:
        "python -m analysis.best_betas --tables {input.tables} {params.grid} {params.baseline} {params.published}"
        " --out {output} > {log} 2>&1"


rule plot_noise_scale:
    input:
        sources("analysis.plot_noise_scale"),
        tables=lambda wildcards: NOISE_TABLES[wildcards.scale],
    output:
        report(
            f"{R}/analysis/{{scale}}plot_noise_scale.svg",
            **report_entry("{scale}plot_noise_scale", "Gradient noise scale along a run"),
        ),
    log:
        f"{R}/logs/analysis/{{scale}}plot_noise_scale.log",
    benchmark:
        f"{R}/benchmarks/analysis/{{scale}}plot_noise_scale.tsv"
    conda:
        "../envs/analysis.yaml"
    wildcard_constraints:
        scale="(records_)?",
    resources:
        mem_mb=2000,
        runtime=10,
    shell:
        "python -m analysis.plot_noise_scale --tables {input.tables} --out {output} > {log} 2>&1"


rule plot_best_beta2:
    input:
        sources("analysis.plot_best_beta2"),
        best=f"{R}/analysis/{{scale}}best_betas_beta2.csv",
        noise_scale=lambda wildcards: NOISE_TABLES[wildcards.scale],
    output:
        figure=report(
            f"{R}/analysis/{{scale}}plot_best_beta2.svg",
            **report_entry("{scale}plot_best_beta2", "Best beta2 against batch size"),
        ),
        summary=f"{R}/analysis/{{scale}}plot_best_beta2.json",
    params:
        beta1=lambda wildcards: flags({"beta1": SWEEPS[wildcards.scale]["curves"]["beta2"]["beta1"]}),
    log:
        f"{R}/logs/analysis/{{scale}}plot_best_beta2.log",
    benchmark:
        f"{R}/benchmarks/analysis/{{scale}}plot_best_beta2.tsv"
    conda:
        "../envs/analysis.yaml"
    wildcard_constraints:
        scale="(records_)?",
    resources:
        mem_mb=2000,
        runtime=10,
    shell:
        "python -m analysis.plot_best_beta2 --best {input.best} --noise-scale {input.noise_scale} {params.beta1}"
        " --out {output.figure} --summary {output.summary} > {log} 2>&1"


rule plot_closeness:
    input:
        sources("analysis.plot_closeness"),
        table=rules.sim_closeness.output,
    output:
        report(f"{R}/analysis/plot_closeness.svg", **report_entry("plot_closeness", "Distance to the memoryless iteration")),
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
        report(f"{R}/analysis/plot_turning.svg", **report_entry("plot_turning", "C_total of finite epochs")),
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
        figure=report(f"{R}/analysis/plot_invariance.svg", **report_entry("plot_invariance", "Batch size invariance")),
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
        figure=report(f"{R}/analysis/plot_terms.svg", **report_entry("plot_terms", "E[Corr] term by term")),
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
    study: [f"{R}/train/image_sweep/{case}.csv" for case in cases]
    + recorded_tables(f"records/train/image_sweep/{study}")
    for study, cases in config["analysis"]["plot_image_sweep"].items()
}


rule plot_image_sweep:
    input:
        sources("analysis.plot_image_sweep"),
        **VISION_TABLES,
    output:
        figure=report(f"{R}/analysis/plot_image_sweep.svg", **report_entry("plot_image_sweep", "Test error on images")),
        numbers=f"{R}/analysis/plot_image_sweep.json",
    params:
        tables=flags({study: tables for study, tables in VISION_TABLES.items() if tables}),
    log:
        f"{R}/logs/analysis/plot_image_sweep.log",
    benchmark:
        f"{R}/benchmarks/analysis/plot_image_sweep.tsv"
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=2000,
        runtime=10,
    shell:
        "python -m analysis.plot_image_sweep {params.tables} --out {output.figure} --numbers {output.numbers} > {log} 2>&1"


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
        best=expand(f"{R}/analysis/best_betas_{{curve}}.csv", curve=SWEEP["curves"]),
        critical=f"{R}/analysis/plot_best_beta2.json",
        noise_scale=NOISE_TABLES[""],
        recorded=expand(f"{R}/analysis/records_best_betas_{{curve}}.csv", curve=SWEEPS["records_"]["curves"]),
        recorded_critical=f"{R}/analysis/records_plot_best_beta2.json",
        recorded_noise_scale=NOISE_TABLES["records_"],
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
        "python -m analysis.article_numbers --expectation {input.expectation} --best {input.best}"
        " --critical {input.critical} --noise-scale {input.noise_scale} --recorded {input.recorded}"
        " --recorded-critical {input.recorded_critical} --recorded-noise-scale {input.recorded_noise_scale}"
        " --certify {input.certify} --closeness {input.closeness} --map {input.map} --turning {input.turning}"
        " --terms {input.terms} --runs {input.runs} --out {output} > {log} 2>&1"


from pathlib import Path

GENERALIZATION_TABLES = expand(f"{R}/sim/feature_noise_studies/{{study}}.csv", study=FEATURE_NOISE["studies"])
GENERALIZATION_RECORDS = sorted(map(str, Path("records/feature_noise").glob("*.csv")))


rule feature_noise_verdicts:
    input:
        sources("analysis.feature_noise_verdicts"),
        tables=GENERALIZATION_TABLES,
        records=GENERALIZATION_RECORDS,
    output:
        f"{R}/analysis/feature_noise_verdicts.json",
    log:
        f"{R}/logs/analysis/feature_noise_verdicts.log",
    benchmark:
        f"{R}/benchmarks/analysis/feature_noise_verdicts.tsv"
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=2000,
        runtime=10,
    shell:
        "python -m analysis.feature_noise_verdicts --tables {input.tables} --records {input.records} --out {output}"
        " > {log} 2>&1"


rule plot_feature_noise:
    input:
        sources("analysis.plot_feature_noise"),
        here=GENERALIZATION_TABLES,
        published=GENERALIZATION_RECORDS,
    output:
        report(
            f"{R}/analysis/plot_feature_noise/{{source}}_{{part}}.svg",
            **report_entry("plot_feature_noise/{source}_{part}", "Stochastic Adam on a two-layer CNN: {part}"),
        ),
    params:
        tables=lambda wildcards, input: input[wildcards.source],
    log:
        f"{R}/logs/analysis/plot_feature_noise/{{source}}_{{part}}.log",
    benchmark:
        f"{R}/benchmarks/analysis/plot_feature_noise/{{source}}_{{part}}.tsv"
    conda:
        "../envs/analysis.yaml"
    wildcard_constraints:
        source="here|published",
        part="alignments|batch|decay|confounders",
    resources:
        mem_mb=2000,
        runtime=10,
    shell:
        "python -m analysis.plot_feature_noise --figure {wildcards.part} --tables {params.tables} --out {output}"
        " > {log} 2>&1"
