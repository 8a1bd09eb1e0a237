EXPECTATION = config["sim"]["expectation"]
EXPECTATION_GRID = grid(EXPECTATION)


rule sim_expectation:
    input:
        sources("sim.expectation"),
    output:
        f"{R}/sim/expectation/b{{batch_size}}_beta2-{{beta2}}.csv",
    params:
        settings=flags(EXPECTATION["settings"]),
    log:
        f"{R}/logs/sim/expectation/b{{batch_size}}_beta2-{{beta2}}.log",
    benchmark:
        f"{R}/benchmarks/sim/expectation/b{{batch_size}}_beta2-{{beta2}}.tsv"
    conda:
        "../envs/sim.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    shell:
        "python -m sim.expectation {params.settings} --batch-size {wildcards.batch_size} --beta2 {wildcards.beta2}"
        " --n-threads {threads} --format csv --out {output} > {log} 2>&1"


rule sim_closeness:
    input:
        sources("sim.closeness"),
    output:
        f"{R}/sim/closeness.csv",
    params:
        settings=flags(config["sim"]["closeness"]),
    log:
        f"{R}/logs/sim/closeness.log",
    benchmark:
        f"{R}/benchmarks/sim/closeness.tsv"
    conda:
        "../envs/sim.yaml"
    threads: 2
    resources:
        mem_mb=2000,
        runtime=60,
    shell:
        "python -m sim.closeness {params.settings} --n-threads {threads} --format csv --out {output} > {log} 2>&1"


rule sim_turning:
    input:
        sources("sim.turning"),
    output:
        map=f"{R}/sim/turning.csv",
        turning=f"{R}/sim/turning_points.csv",
    params:
        settings=flags(config["sim"]["turning"]),
    log:
        f"{R}/logs/sim/turning.log",
    benchmark:
        f"{R}/benchmarks/sim/turning.tsv"
    conda:
        "../envs/sim.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    shell:
        "python -m sim.turning {params.settings} --format csv --out {output.map} --turning-out {output.turning}"
        " > {log} 2>&1"


rule sim_invariance:
    input:
        sources("sim.invariance"),
    output:
        slopes=f"{R}/sim/invariance.csv",
        spread=f"{R}/sim/invariance_spread.csv",
    params:
        settings=flags(config["sim"]["invariance"]),
    log:
        f"{R}/logs/sim/invariance.log",
    benchmark:
        f"{R}/benchmarks/sim/invariance.tsv"
    conda:
        "../envs/sim.yaml"
    threads: 2
    resources:
        mem_mb=2000,
        runtime=60,
    shell:
        "python -m sim.invariance {params.settings} --n-threads {threads} --format csv --out {output.slopes}"
        " --spread-out {output.spread} > {log} 2>&1"


TERMS = config["sim"]["terms"]


rule sim_terms:
    input:
        sources("sim.terms"),
    output:
        f"{R}/sim/terms/{{case}}.csv",
    params:
        settings=lambda wildcards: flags(TERMS[wildcards.case]),
    log:
        f"{R}/logs/sim/terms/{{case}}.log",
    benchmark:
        f"{R}/benchmarks/sim/terms/{{case}}.tsv"
    conda:
        "../envs/sim.yaml"
    wildcard_constraints:
        case="|".join(TERMS),
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    shell:
        "python -m sim.terms {params.settings} --format csv --out {output} > {log} 2>&1"


FEATURE_NOISE = config["sim"]["feature_noise_studies"]


rule sim_feature_noise_studies:
    input:
        sources("sim.feature_noise_studies"),
    output:
        f"{R}/sim/feature_noise_studies/{{study}}.csv",
    params:
        settings=lambda wildcards: flags(FEATURE_NOISE["settings"] | FEATURE_NOISE["studies"][wildcards.study]),
    log:
        f"{R}/logs/sim/feature_noise_studies/{{study}}.log",
    benchmark:
        f"{R}/benchmarks/sim/feature_noise_studies/{{study}}.tsv"
    conda:
        "../envs/sim.yaml"
    wildcard_constraints:
        study="|".join(FEATURE_NOISE["studies"]),
    threads: 2
    resources:
        mem_mb=3000,
        runtime=240,
    shell:
        "python -m sim.feature_noise_studies --study {wildcards.study} {params.settings} --n-threads {threads}"
        " --format csv --out {output} > {log} 2>&1"
