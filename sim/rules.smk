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
    shell:
        "python -m sim.expectation {params.settings} --batch-size {wildcards.batch_size} --beta2 {wildcards.beta2}"
        " --n-threads {threads} --format csv --out {output} > {log} 2>&1"
