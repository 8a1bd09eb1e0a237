RUN = config["train"]["run"]
RUN_GRID = grid(RUN)


rule train_run:
    input:
        sources("train.run"),
    output:
        csv=f"{R}/train/run/b{{batch_size}}_lr{{lr}}_beta2-{{beta2}}_seed{{seed}}.csv",
        json=f"{R}/train/run/b{{batch_size}}_lr{{lr}}_beta2-{{beta2}}_seed{{seed}}.json",
    params:
        settings=flags(RUN["settings"]),
        data=flags({"data_dir": config["data_dir"]}),
        checkpoint=f"{R}/checkpoints/train/run/b{{batch_size}}_lr{{lr}}_beta2-{{beta2}}_seed{{seed}}.pt",
    log:
        f"{R}/logs/train/run/b{{batch_size}}_lr{{lr}}_beta2-{{beta2}}_seed{{seed}}.log",
    benchmark:
        f"{R}/benchmarks/train/run/b{{batch_size}}_lr{{lr}}_beta2-{{beta2}}_seed{{seed}}.tsv"
    conda:
        "../envs/train.yaml"
    threads: 1
    resources:
        gpu=RUN["gpu"],
        mem_mb=8000,
        runtime=RUN["minutes"],
    shell:
        "python -m train.run {params.settings} {params.data} --batch-size {wildcards.batch_size} --lr {wildcards.lr}"
        " --beta2 {wildcards.beta2} --seed {wildcards.seed} --n-threads {threads}"
        " --checkpoint {params.checkpoint} --out {output.csv} > {log} 2>&1"
