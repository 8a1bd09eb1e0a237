from common.studies import STUDIES

for name, study in STUDIES.items():
    files = {flag: f"{R}/sim/{file}" for flag, file in study.outputs.items()}

    rule:
        name:
            f"sim_{name}"
        input:
            sources(f"sim.{name}"),
        output:
            **files,
        log:
            f"{R}/logs/sim/{name}.log",
        benchmark:
            f"{R}/benchmarks/sim/{name}.tsv"
        priority: SOON
        conda:
            "../envs/sim.yaml"
        threads: study.n_threads or 1
        params:
            program=f"sim.{name}",
            settings=flags(config["sim"].get(name, {})),
            files=flags(files),
            threads=flags({"n_threads": study.n_threads}),
        shell:
            "python -m {params.program} {params.settings} {params.threads} --format csv {params.files} > {log:q} 2>&1"


TERMS = config["sim"]["terms"]
TABLES["sim_terms"] = [f"{R}/sim/terms/{case}.csv" for case in config["analysis"]["plot_terms"]["cases"]]


rule sim_terms:
    input:
        sources("sim.terms"),
    output:
        f"{R}/sim/terms/{{case}}.csv",
    log:
        f"{R}/logs/sim/terms/{{case}}.log",
    benchmark:
        f"{R}/benchmarks/sim/terms/{{case}}.tsv"
    wildcard_constraints:
        case="|".join(TERMS),
    conda:
        "../envs/sim.yaml"
    threads: 1
    params:
        settings=lambda wildcards: flags(TERMS[wildcards.case]),
    shell:
        "python -m sim.terms {params.settings} --format csv --out {output:q} > {log:q} 2>&1"


FEATURE_NOISE = config["sim"]["feature_noise_studies"]
TABLES["sim_feature_noise_studies"] = expand(
    f"{R}/sim/feature_noise_studies/{{study}}.csv", study=FEATURE_NOISE["studies"]
)


rule sim_feature_noise_studies:
    input:
        sources("sim.feature_noise_studies"),
    output:
        f"{R}/sim/feature_noise_studies/{{study}}.csv",
    log:
        f"{R}/logs/sim/feature_noise_studies/{{study}}.log",
    benchmark:
        f"{R}/benchmarks/sim/feature_noise_studies/{{study}}.tsv"
    wildcard_constraints:
        study="|".join(FEATURE_NOISE["studies"]),
    conda:
        "../envs/sim.yaml"
    threads: 1
    resources:
        mem_mb=3000,
        runtime=240,
    params:
        settings=lambda wildcards: flags(
            FEATURE_NOISE["settings"] | FEATURE_NOISE["studies"][wildcards.study]
        ),
    shell:
        "python -m sim.feature_noise_studies --study {wildcards.study} {params.settings} --n-threads {threads}"
        " --format csv --out {output:q} > {log:q} 2>&1"


OVERFITTING = config["sim"]["overfitting_study"]
TABLES["sim_overfitting_study"] = expand(f"{R}/sim/overfitting_study/{{variant}}.csv", variant=OVERFITTING)


rule sim_overfitting_study:
    input:
        sources("sim.overfitting_study"),
    output:
        f"{R}/sim/overfitting_study/{{variant}}.csv",
    log:
        f"{R}/logs/sim/overfitting_study/{{variant}}.log",
    benchmark:
        f"{R}/benchmarks/sim/overfitting_study/{{variant}}.tsv"
    wildcard_constraints:
        variant="|".join(OVERFITTING),
    priority: SOON
    conda:
        "../envs/sim.yaml"
    threads: 1  # a job of two would wait until nothing else is left to do
    resources:
        runtime=240,
    params:
        settings=lambda wildcards: flags(OVERFITTING[wildcards.variant]),
    shell:
        "python -m sim.overfitting_study --variant {wildcards.variant} {params.settings} --n-threads {threads}"
        " --out {output:q} > {log:q} 2>&1"
