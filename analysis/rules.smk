# Figures whose rules have no wildcards: paper/figures.yaml says what they are drawn from.
for name, figure in FIGURES.items():
    if "tables" not in figure:
        continue
    tables = {flag: made_by(source) for flag, source in figure["tables"].items()}
    summary = {"summary": f"{R}/analysis/{name}.{figure['summary']}"} if "summary" in figure else {}

    rule:
        name:
            name
        input:
            sources(f"analysis.{name}"),
            **tables,
        output:
            **summary,
            figure=figure_file(name),
        log:
            f"{R}/logs/analysis/{name}.log",
        benchmark:
            f"{R}/benchmarks/analysis/{name}.tsv"
        priority: FIRST
        conda:
            "../envs/analysis.yaml"
        params:
            program=f"analysis.{name}",
            tables=flags(tables),
            settings=flags(drawing(name)),
            summary=flags(summary),
        shell:
            "python -m {params.program} {params.tables} {params.settings} --out {output.figure:q} {params.summary}"
            " > {log:q} 2>&1"


# Sweeps are drawn twice by the same rules: those of this configuration, and the recorded ones ("records_") on the grid of
# the published experiment.
PUBLISHED = load(MAIN, "config/full.yaml")
SWEEPS = {"": SWEEP, "records_": PUBLISHED["train"]["sweep"]}
BASELINES = {"": config["analysis"]["best_betas"], "records_": PUBLISHED["analysis"]["best_betas"]}
RECORDED_RUNS = recorded_tables(SWEEP["records"])
RUN_TABLES = {  # of a run that is in several, the first table counts
    "": [f"{panel}.csv" for panel in PANELS] + RECORDED_RUNS,
    "records_": recorded_tables("records/train/sweep"),
}
NOISE_TABLES = {
    "": [f"{R}/train/noise_scale/{case}.csv" for case in config["analysis"]["plot_noise_scale"]["cases"]],
    "records_": recorded_tables("records/train/noise_scale"),
}


rule plot_sweep:
    input:
        sources("analysis.plot_sweep"),
        tables=lambda wildcards: RUN_TABLES[wildcards.scale],
    output:
        figure=figure_file("{scale}plot_sweep_{curve}"),
        summary=f"{R}/analysis/{{scale}}plot_sweep_{{curve}}.csv",
    log:
        f"{R}/logs/analysis/{{scale}}plot_sweep_{{curve}}.log",
    benchmark:
        f"{R}/benchmarks/analysis/{{scale}}plot_sweep_{{curve}}.tsv"
    priority: FIRST
    conda:
        "../envs/analysis.yaml"
    params:
        grid=swept_grid,
    shell:
        "python -m analysis.plot_sweep --tables {input.tables:q} {params.grid} --out {output.figure:q}"
        " --summary {output.summary:q} > {log:q} 2>&1"


rule best_betas:
    input:
        sources("analysis.best_betas"),
        tables=lambda wildcards: RUN_TABLES[wildcards.scale],
        published="analysis/published/table1.csv",
    output:
        f"{R}/analysis/{{scale}}best_betas_{{curve}}.csv",
    log:
        f"{R}/logs/analysis/{{scale}}best_betas_{{curve}}.log",
    benchmark:
        f"{R}/benchmarks/analysis/{{scale}}best_betas_{{curve}}.tsv"
    conda:
        "../envs/analysis.yaml"
    params:
        grid=swept_grid,
        baseline=lambda wildcards: flags({"baseline": BASELINES[wildcards.scale][wildcards.curve]}),
        published=published_bests,
    shell:
        "python -m analysis.best_betas --tables {input.tables:q} {params.grid} {params.baseline} {params.published}"
        " --out {output:q} > {log:q} 2>&1"


rule plot_noise_scale:
    input:
        sources("analysis.plot_noise_scale"),
        tables=lambda wildcards: NOISE_TABLES[wildcards.scale],
    output:
        figure_file("{scale}plot_noise_scale"),
    log:
        f"{R}/logs/analysis/{{scale}}plot_noise_scale.log",
    benchmark:
        f"{R}/benchmarks/analysis/{{scale}}plot_noise_scale.tsv"
    priority: FIRST
    conda:
        "../envs/analysis.yaml"
    shell:
        "python -m analysis.plot_noise_scale --tables {input.tables:q} --out {output:q} > {log:q} 2>&1"


rule plot_best_beta2:
    input:
        sources("analysis.plot_best_beta2"),
        best=f"{R}/analysis/{{scale}}best_betas_beta2.csv",
        noise_scale=lambda wildcards: NOISE_TABLES[wildcards.scale],
    output:
        figure=figure_file("{scale}plot_best_beta2"),
        summary=f"{R}/analysis/{{scale}}plot_best_beta2.json",
    log:
        f"{R}/logs/analysis/{{scale}}plot_best_beta2.log",
    benchmark:
        f"{R}/benchmarks/analysis/{{scale}}plot_best_beta2.tsv"
    priority: FIRST
    conda:
        "../envs/analysis.yaml"
    params:
        beta1=lambda wildcards: flags({"beta1": SWEEPS[wildcards.scale]["curves"]["beta2"]["beta1"]}),
    shell:
        "python -m analysis.plot_best_beta2 --best {input.best:q} --noise-scale {input.noise_scale:q} {params.beta1}"
        " --out {output.figure:q} --summary {output.summary:q} > {log:q} 2>&1"


IMAGE_TABLES = {
    study: [f"{R}/train/image_sweep/{case}.csv" for case in cases]
    + recorded_tables(IMAGE_SWEEP["records"] and f"{IMAGE_SWEEP['records']}/{study}")
    for study, cases in config["analysis"]["plot_image_sweep"].items()
}


rule plot_image_sweep:
    input:
        sources("analysis.plot_image_sweep"),
        **IMAGE_TABLES,
    output:
        figure=figure_file("plot_image_sweep"),
        numbers=f"{R}/analysis/plot_image_sweep.json",
    log:
        f"{R}/logs/analysis/plot_image_sweep.log",
    benchmark:
        f"{R}/benchmarks/analysis/plot_image_sweep.tsv"
    priority: FIRST
    conda:
        "../envs/analysis.yaml"
    params:
        tables=flags({study: tables for study, tables in IMAGE_TABLES.items() if tables}),
    shell:
        "python -m analysis.plot_image_sweep {params.tables} --out {output.figure:q} --numbers {output.numbers:q}"
        " > {log:q} 2>&1"


rule explorer:
    input:
        sources("analysis.explorer"),
        best=f"{R}/analysis/best_betas_beta2.csv",
        study=f"{R}/analysis/overfitting.json",
    output:
        f"{R}/explorer.html",
    log:
        f"{R}/logs/explorer.log",
    benchmark:
        f"{R}/benchmarks/explorer.tsv"
    conda:
        "../envs/analysis.yaml"
    shell:
        "python -m analysis.explorer --best {input.best:q} --study {input.study:q} --out {output:q} > {log:q} 2>&1"


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
    shell:
        "python -m analysis.certify --format csv --out {output:q} > {log:q} 2>&1"


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
        turning=rules.sim_turning.output.turning_out,
        map=rules.sim_turning.output.out,
        terms=expand(f"{R}/sim/terms/{{case}}.csv", case=TERMS),
        runs=[f"{panel}.json" for panel in PANELS],
        recorded_runs=[f"{path.removesuffix('.gz').removesuffix('.csv')}.json" for path in RECORDED_RUNS],
    output:
        f"{R}/analysis/article_numbers.json",
    log:
        f"{R}/logs/analysis/article_numbers.log",
    benchmark:
        f"{R}/benchmarks/analysis/article_numbers.tsv"
    conda:
        "../envs/analysis.yaml"
    shell:
        "python -m analysis.article_numbers --expectation {input.expectation:q} --best {input.best:q}"
        " --critical {input.critical:q} --noise-scale {input.noise_scale:q} --recorded {input.recorded:q}"
        " --recorded-critical {input.recorded_critical:q} --recorded-noise-scale {input.recorded_noise_scale:q}"
        " --certify {input.certify:q} --closeness {input.closeness:q} --map {input.map:q} --turning {input.turning:q}"
        " --terms {input.terms:q} --runs {input.runs:q} --recorded-runs {input.recorded_runs:q} --out {output:q}"
        " > {log:q} 2>&1"


FEATURE_NOISE_TABLES = {
    "here": made_by("sim_feature_noise_studies"),
    "published": recorded_tables("records/feature_noise"),
}


rule feature_noise_verdicts:
    input:
        sources("analysis.feature_noise_verdicts"),
        tables=FEATURE_NOISE_TABLES["here"],
        records=FEATURE_NOISE_TABLES["published"],
    output:
        f"{R}/analysis/feature_noise_verdicts.json",
    log:
        f"{R}/logs/analysis/feature_noise_verdicts.log",
    benchmark:
        f"{R}/benchmarks/analysis/feature_noise_verdicts.tsv"
    conda:
        "../envs/analysis.yaml"
    shell:
        "python -m analysis.feature_noise_verdicts --tables {input.tables:q} --records {input.records:q} --out {output:q}"
        " > {log:q} 2>&1"


rule plot_feature_noise:
    input:
        sources("analysis.plot_feature_noise"),
        tables=lambda wildcards: FEATURE_NOISE_TABLES[wildcards.source],
    output:
        figure_file("plot_feature_noise/{source}_{part}"),
    log:
        f"{R}/logs/analysis/plot_feature_noise/{{source}}_{{part}}.log",
    benchmark:
        f"{R}/benchmarks/analysis/plot_feature_noise/{{source}}_{{part}}.tsv"
    wildcard_constraints:
        source="here|published",
        part="alignments|batch|decay|remedies|steps|rescue",
    priority: FIRST
    conda:
        "../envs/analysis.yaml"
    shell:
        "python -m analysis.plot_feature_noise --figure {wildcards.part} --tables {input.tables:q} --out {output:q}"
        " > {log:q} 2>&1"


OVERFITTING_RECORDS = recorded_tables("records/overfitting")
OVERFITTING_NOISE = recorded_tables("records/overfitting_noise")
TEXT_RECORDS = [  # of train.small_study
    table
    for folder in (".", "further_rates", "diagonal", "dropout-0.1")
    for table in recorded_tables(os.path.normpath(f"records/train/small_sweep/{folder}"))
]


rule overfitting_verdicts:
    input:
        sources("analysis.overfitting_verdicts"),
        tables=made_by("sim_overfitting_study"),
        records=OVERFITTING_RECORDS,
        noise=OVERFITTING_NOISE,
        text=TEXT_RECORDS,
    output:
        f"{R}/analysis/overfitting.json",
    log:
        f"{R}/logs/analysis/overfitting_verdicts.log",
    benchmark:
        f"{R}/benchmarks/analysis/overfitting_verdicts.tsv"
    priority: SOON
    conda:
        "../envs/analysis.yaml"
    shell:
        "python -m analysis.overfitting_verdicts --tables {input.tables:q} --records {input.records:q}"
        " --noise {input.noise:q} --text {input.text:q} --out {output:q} > {log:q} 2>&1"


rule plot_overfitting:
    input:
        sources("analysis.plot_overfitting"),
        "analysis/published/marin_beta2.csv",
        "analysis/published/table1.csv",
        verdicts=rules.overfitting_verdicts.output,
    output:
        figure_file("plot_overfitting/{part}"),
    log:
        f"{R}/logs/analysis/plot_overfitting/{{part}}.log",
    benchmark:
        f"{R}/benchmarks/analysis/plot_overfitting/{{part}}.tsv"
    wildcard_constraints:
        part="bests|gains|rules|mechanism|maps|maps_fixed|text",
    priority: FIRST
    conda:
        "../envs/analysis.yaml"
    shell:
        "python -m analysis.plot_overfitting --figure {wildcards.part} --verdicts {input.verdicts:q} --out {output:q}"
        " > {log:q} 2>&1"
