"""What is measured at the best point of a run, and the list of runs of the study."""

import csv
import json
import os
import shutil
import subprocess
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from adam_minibatch_noise.errors import InputError
from train import small_study, sweep
from train.language import best_point, panel
from train.language.corpora import Corpus
from train.language.settings import Settings
from train.language.trainer import Trainer

ROOT = Path(__file__).parent.parent
TINY = "--n-layer 1 --d-model 8 --d-head 4 --d-inner 8 --tgt-len 8 --max-train-windows 40 --n-epochs 1 --no-progress"


@pytest.fixture
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def test_best_point_is_what_single_backward_passes_give(double):
    text = np.random.default_rng(3).integers(0, 11, 201)
    corpus = Corpus("toy", tuple("abcdefghijk"), text, text[:50], text[:50], "toy")
    settings = Settings(n_layer=2, d_model=8, d_head=4, d_inner=8, tgt_len=8, batch_size=7, dropout=0.5)
    trainer = Trainer(settings, corpus, torch.device("cpu"))
    trainer.start(settings)
    with torch.no_grad():
        trainer.values *= 15  # far from a flat start
    before, model = trainer.values.detach().clone(), trainer.model
    found = best_point.measure(trainer)
    assert torch.equal(trainer.values, before)
    assert model.training

    model.eval()
    params = list(model.parameters())
    gradients = []
    for inputs, targets in zip(trainer.inputs, trainer.targets, strict=True):
        loss = model(inputs[None], targets[None])[0] / inputs.numel()
        gradients.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, params)]))
    g = torch.stack(gradients)
    mean = g.mean(0)

    def loss_at(step):
        moved, start = {}, 0
        for name, param in model.named_parameters():
            moved[name] = param.detach() + step[start : start + param.numel()].view_as(param)
            start += param.numel()
        total = torch.func.functional_call(model, moved, (trainer.inputs, trainer.targets))[0]
        return float(total.detach()) / trainer.inputs.numel()

    wanted = {
        "gradient_l1": float(mean.abs().sum()),
        "gradient_squared": float((mean**2).sum()),
        "trace_covariance": float(((g - mean) ** 2).sum() / len(g)),
        "sharpness": loss_at(0.003 * mean.sign()) - loss_at(0 * mean),
    }
    assert found == pytest.approx(wanted, rel=1e-9)
    assert found["sharpness"] > 0.003 * found["gradient_l1"] / 2 > 0.001


@pytest.mark.parametrize("how", [[], ["--side-by-side", "2"]])
def test_sweep_adds_the_measurements(how, tmp_path):
    flags = [*TINY.split(), "--beta2", "0.9", "0.99", *how]
    command = [*flags, "--at-best", "--work", tmp_path / "w", "--out", tmp_path / "a.csv"]
    command = list(map(str, command))
    assert sweep.main(command) == 0
    rows = list(csv.DictReader((tmp_path / "a.csv").read_text().splitlines()))
    for row in rows:
        for name in best_point.COLUMNS:
            assert float(row[name]) > 0, name
    assert len({row["gradient_l1"] for row in rows}) == 2


def test_record_without_the_measurements_is_refused(tmp_path, fails):
    settings = Settings(n_layer=1, d_model=8)
    record = {"settings": {**asdict(settings), "corpus_sha256": "x"}, "outcome": {}, "evaluations": []}
    (tmp_path / f"{panel.name_of(settings)}.json").write_text(json.dumps(record))
    assert panel.finished(tmp_path, settings, "x") == record
    with pytest.raises(InputError, match="is of a sweep without --at-best"):
        panel.finished(tmp_path, settings, "x", at_best=True)
    flags = ["--at-best", "--mem-len", "4", "--no-shuffle", "--out"]
    assert "allowed only with --mem-len 0" in fails(sweep.main, *flags, tmp_path / "a.csv")


def test_every_panel_is_one_that_the_sweep_takes(capsys, tmp_path):
    listed = list(small_study.panels())
    assert len({one.name for one in listed}) == len(listed) == 82
    assert {one.settings.batch_size for one in listed[:4]} == set(small_study.BATCH_SIZES)
    assert {one.settings.batch_size for one in listed[:2]} == {8, 4217}  # the corners first
    for one in listed:
        words = one.command(tmp_path)
        assert words[:2] == ["-m", "train.sweep"]
        arguments = sweep.parser().parse_args(words[2:])
        made = sweep.runs_of(arguments)
        assert len(made) == 10
        assert {replace(run, seed=0, beta1=0.9, beta2=0.999) for run in made} == {
            replace(one.settings, seed=0, beta1=0.9, beta2=0.999)
        }
        assert {run.seed for run in made} == {one.settings.seed, one.settings.seed + 1}
        betas = small_study.CURVES[one.curve]
        wanted = {(a, b) for a in betas[0] for b in betas[1]} or {(b, b) for b in betas[1]}
        assert {(run.beta1, run.beta2) for run in made} == wanted
    (tmp_path / f"{listed[0].name}.csv").touch()
    small_study.main(["--folder", str(tmp_path), "--n-panels", "2"])
    out, err = capsys.readouterr()
    assert [line.split("--out ")[1] for line in out.splitlines()] == [
        f"{tmp_path / one.name}.csv" for one in listed[1:3]
    ]
    assert err == "81 of 82 panels are missing\n"


def test_every_panel_is_recorded_with_all_its_runs(capsys):
    folder = ROOT / "records/train/small_sweep"
    small_study.main(["--folder", str(folder)])
    assert capsys.readouterr() == ("", "0 of 82 panels are missing\n")
    n_runs = 0
    for one in small_study.panels():
        rows = list(csv.DictReader((folder / f"{one.name}.csv").read_text().splitlines()))
        pairs = {(float(row["beta1"]), float(row["beta2"]), int(row["seed"])) for row in rows}
        arguments = sweep.parser().parse_args(one.command(folder)[2:])
        assert pairs == {(run.beta1, run.beta2, run.seed) for run in sweep.runs_of(arguments)}, one.name
        assert {(int(row["batch_size"]), float(row["lr"])) for row in rows} == {
            (one.settings.batch_size, one.settings.lr)
        }
        n_runs += len(rows)
    assert f"`train/small_sweep` holds {n_runs} runs " in (ROOT / "records/README.md").read_text()


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_script_runs_the_panels_in_turn_and_passes_over_one_that_fails(tmp_path):
    """With an interpreter that writes down what it is asked, and fails for the second panel."""
    fake = tmp_path / "python"
    fake.write_text(
        f"#!/usr/bin/env bash\nif [ $2 = train.small_study ]; then printf '%s\\n' '-m a --out 1.csv' "
        f"'-m b --out 2.csv' '-m c --out 3.csv'; echo \"$*\" > {tmp_path}/listed; exit; fi\n"
        f'cat\necho "$*" >> {tmp_path}/asked\n[ $2 != b ]\n'
    )
    fake.chmod(0o755)
    script = ROOT / "records/train/small_sweep/measure.sh"
    settings = {"PYTHON": str(fake), "N": "3", "DEVICE": "cuda"}
    done = subprocess.run(
        ["bash", script], env={**os.environ, **settings}, capture_output=True, text=True, timeout=60
    )
    assert (tmp_path / "listed").read_text() == "-m train.small_study --device cuda --n-panels 3\n"
    assert (tmp_path / "asked").read_text().splitlines() == [
        f"-m {name} --out {i}.csv --no-progress" for i, name in enumerate("abc", 1)
    ]
    assert done.stderr == "left out: -m b --out 2.csv\n"
    assert done.returncode == 0
