SWEEP = config["train"]["sweep"]
PANELS = [
    f"{R}/train/sweep/{curve}_b{batch_size}_lr{lr}"
    for curve in SWEEP["curves"]
    for lr in SWEEP["lr"]
    for batch_size in SWEEP["batch_size"]
]


rule train_sweep:
    input:
        sources("train.sweep"),
    output:
        csv=f"{R}/train/sweep/{{curve}}_b{{batch_size}}_lr{{lr}}.csv",
        json=f"{R}/train/sweep/{{curve}}_b{{batch_size}}_lr{{lr}}.json",
        evaluations=f"{R}/train/sweep/{{curve}}_b{{batch_size}}_lr{{lr}}_evaluations.csv",
    params:
        settings=flags(SWEEP["settings"]),
        curve=lambda wildcards: flags(SWEEP["curves"][wildcards.curve]),
        seed=flags({"seed": SWEEP["seed"]}),
        data=flags({"data_dir": config["data_dir"]}),
        work=f"{R}/checkpoints/train/sweep/{{curve}}_b{{batch_size}}_lr{{lr}}",
    log:
        f"{R}/logs/train/sweep/{{curve}}_b{{batch_size}}_lr{{lr}}.log",
    benchmark:
        f"{R}/benchmarks/train/sweep/{{curve}}_b{{batch_size}}_lr{{lr}}.tsv"
    conda:
        "../envs/train.yaml"
    wildcard_constraints:
        curve="|".join(SWEEP["curves"]),
        batch_size=r"\d+",
    threads: 1
    resources:
        gpu=SWEEP["gpu"],
        mem_mb=8000,
        runtime=SWEEP["minutes"],
    shell:
        "python -m train.sweep {params.settings} {params.data} --batch-size {wildcards.batch_size}"
        " --lr {wildcards.lr} {params.curve} {params.seed} --n-threads {threads}"
        " --work {params.work} --out {output.csv} > {log} 2>&1"


rule train_run:  # along which the noise scale is measured; the model is that of the sweep
    input:
        sources("train.run"),
    output:
        csv=f"{R}/train/run/{{case}}.csv",
        json=f"{R}/train/run/{{case}}.json",
        snapshots=temp(directory(f"{R}/train/run/{{case}}_snapshots")),
    params:
        settings=lambda wildcards: flags({**SWEEP["settings"], **config["train"]["run"][wildcards.case]}),
        data=flags({"data_dir": config["data_dir"]}),
    log:
        f"{R}/logs/train/run/{{case}}.log",
    benchmark:
        f"{R}/benchmarks/train/run/{{case}}.tsv"
    conda:
        "../envs/train.yaml"
    wildcard_constraints:
        case="|".join(config["train"]["run"]),
    threads: 1
    resources:
        gpu=SWEEP["gpu"],
        mem_mb=8000,
        runtime=SWEEP["minutes"],
    shell:
        "python -m train.run {params.settings} {params.data} --n-threads {threads}"
        " --snapshots {output.snapshots} --out {output.csv} > {log} 2>&1"


rule train_noise_scale:
    input:
        sources("train.noise_scale"),
        snapshots=rules.train_run.output.snapshots,
    output:
        f"{R}/train/noise_scale/{{case}}.csv",
    params:
        settings=flags(config["train"]["noise_scale"]),
        data=flags({"data_dir": config["data_dir"]}),
    log:
        f"{R}/logs/train/noise_scale/{{case}}.log",
    benchmark:
        f"{R}/benchmarks/train/noise_scale/{{case}}.tsv"
    conda:
        "../envs/train.yaml"
    threads: 1
    resources:
        gpu=SWEEP["gpu"],
        mem_mb=8000,
        runtime=SWEEP["minutes"],
    shell:
        "python -m train.noise_scale --snapshots {input.snapshots}/*.pt {params.settings} {params.data}"
        " --n-threads {threads} --format csv --out {output} > {log} 2>&1"


VISION = config["train"]["vision"]


rule train_image_sweep:
    input:
        sources("train.image_sweep"),
    output:
        csv=f"{R}/train/image_sweep/{{case}}.csv",
        json=f"{R}/train/image_sweep/{{case}}.json",
    params:
        settings=lambda wildcards: flags(VISION["cases"][wildcards.case]),
        data=flags({"data_dir": config["data_dir"]}),
        checkpoint=f"{R}/checkpoints/train/image_sweep/{{case}}.pt",
    log:
        f"{R}/logs/train/image_sweep/{{case}}.log",
    benchmark:
        f"{R}/benchmarks/train/image_sweep/{{case}}.tsv"
    conda:
        "../envs/train.yaml"
    wildcard_constraints:
        case="|".join(VISION["cases"]),
    threads: 1
    resources:
        gpu=VISION["gpu"],
        mem_mb=8000,
        runtime=VISION["minutes"],
    shell:
        "python -m train.image_sweep {params.settings} {params.data} --n-threads {threads}"
        " --checkpoint {params.checkpoint} --out {output.csv} > {log} 2>&1"
