from train.images.settings import Settings as ImageSettings

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
    log:
        f"{R}/logs/train/sweep/{{curve}}_b{{batch_size}}_lr{{lr}}.log",
    benchmark:
        f"{R}/benchmarks/train/sweep/{{curve}}_b{{batch_size}}_lr{{lr}}.tsv"
    wildcard_constraints:
        curve="|".join(SWEEP["curves"]),
        batch_size=r"\d+",
    priority: SOON
    conda:
        "../envs/train.yaml"
    threads: 1
    resources:
        **training(SWEEP),
    params:
        settings=flags(SWEEP["settings"]),
        curve=lambda wildcards: flags(SWEEP["curves"][wildcards.curve]),
        seed=flags({"seed": SWEEP["seed"]}),
        data=data_of(corpus_of(SWEEP["settings"])),
        work=f"{R}/checkpoints/train/sweep/{{curve}}_b{{batch_size}}_lr{{lr}}",
    shell:
        "python -m train.sweep {params.settings} {params.data} --batch-size {wildcards.batch_size}"
        " --lr {wildcards.lr} {params.curve} {params.seed} --n-threads {threads}"
        " --work {params.work:q} --out {output.csv:q} > {log:q} 2>&1"


rule train_run:  # along which the noise scale is measured; the model is that of the sweep
    input:
        sources("train.run"),
    output:
        csv=f"{R}/train/run/{{case}}.csv",
        json=f"{R}/train/run/{{case}}.json",
        snapshots=temp(directory(f"{R}/train/run/{{case}}_snapshots")),
    log:
        f"{R}/logs/train/run/{{case}}.log",
    benchmark:
        f"{R}/benchmarks/train/run/{{case}}.tsv"
    wildcard_constraints:
        case="|".join(config["train"]["run"]),
    priority: SOON
    conda:
        "../envs/train.yaml"
    threads: 1
    resources:
        **training(SWEEP),
    params:
        settings=lambda wildcards: flags(settings_of_run(wildcards.case)),
        data=lambda wildcards: data_of(corpus_of(settings_of_run(wildcards.case))),
    shell:
        "python -m train.run {params.settings} {params.data} --n-threads {threads}"
        " --snapshots {output.snapshots:q} --out {output.csv:q} > {log:q} 2>&1"


rule train_noise_scale:
    input:
        sources("train.noise_scale"),
        snapshots=rules.train_run.output.snapshots,
    output:
        f"{R}/train/noise_scale/{{case}}.csv",
    log:
        f"{R}/logs/train/noise_scale/{{case}}.log",
    benchmark:
        f"{R}/benchmarks/train/noise_scale/{{case}}.tsv"
    conda:
        "../envs/train.yaml"
    threads: 1
    resources:
        **training(SWEEP),
    params:
        settings=flags(config["train"]["noise_scale"]),
        data=lambda wildcards: data_of(corpus_of(settings_of_run(wildcards.case))),
    shell:
        "python -m train.noise_scale --snapshots {input.snapshots:q}/*.pt {params.settings} {params.data}"
        " --n-threads {threads} --format csv --out {output:q} > {log:q} 2>&1"


IMAGE_SWEEP = config["train"]["image_sweep"]


rule train_image_sweep:
    input:
        sources("train.image_sweep"),
    output:
        csv=f"{R}/train/image_sweep/{{case}}.csv",
        json=f"{R}/train/image_sweep/{{case}}.json",
    log:
        f"{R}/logs/train/image_sweep/{{case}}.log",
    benchmark:
        f"{R}/benchmarks/train/image_sweep/{{case}}.tsv"
    wildcard_constraints:
        case="|".join(IMAGE_SWEEP["cases"]),
    conda:
        "../envs/train.yaml"
    threads: 1
    resources:
        **training(IMAGE_SWEEP),
    params:
        settings=lambda wildcards: flags(IMAGE_SWEEP["cases"][wildcards.case]),
        data=lambda wildcards: data_of(
            IMAGE_SWEEP["cases"][wildcards.case].get("dataset", ImageSettings().dataset)
        ),
        checkpoint=f"{R}/checkpoints/train/image_sweep/{{case}}.pt",
    shell:
        "python -m train.image_sweep {params.settings} {params.data} --n-threads {threads}"
        " --checkpoint {params.checkpoint:q} --out {output.csv:q} > {log:q} 2>&1"
