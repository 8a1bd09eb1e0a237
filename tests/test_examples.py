"""The examples run as they are, are short, and end with an estimate and advice."""

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def run(*command, tmp_path):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, *map(str, command)], cwd=tmp_path, env=environment, capture_output=True, text=True,
        timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.iterdir())
    return done.stdout


def measured(text):
    """Estimate, ends of the interval and number of measurements of the line that says them."""
    found = re.search(
        r"noise scale: (\S+) samples \[(\S+), (\S+)\] \(95% confidence, (\d+) measurements\)", text
    )
    assert found, text
    assert "Measure the noise scale at the batch size you mean to use" in text
    return [float(number) for number in found.groups()]


def test_there_are_three_and_each_fits_on_a_screen():
    assert {path.stem for path in EXAMPLES} == {"plain_loop", "accumulation_ddp", "huggingface_trainer"}
    for path in EXAMPLES:
        assert len(path.read_text().splitlines()) < 60, path


def test_plain_loop(tmp_path):
    value, low, high, n = measured(run(ROOT / "examples/plain_loop.py", tmp_path=tmp_path))
    assert low < value < high
    assert n == 40  # of 640 steps one in 16


@pytest.mark.faults
def test_accumulation_on_two_processes(tmp_path):
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    text = run(*torchrun, ROOT / "examples/accumulation_ddp.py", tmp_path=tmp_path)
    value, low, high, n = measured(text)
    assert low < value < high
    assert n == 320  # 32 steps in each of 10 epochs
    assert "Rules that carry settings over from batch size 64" in text


@pytest.mark.skipif(find_spec("transformers") is None, reason="needs the extra huggingface")
def test_huggingface_trainer(tmp_path):
    text = run(ROOT / "examples/huggingface_trainer.py", tmp_path=tmp_path)
    value, low, high, n = measured(text)
    assert low < value < high
    assert n == 160  # 32 steps in each of 5 epochs


def test_the_readme_is_right_about_code_and_output(capsys):
    """Its Python runs as printed, and the lines of advice that it shows are those of its command."""
    import torch
    from torch import nn

    from adam_minibatch_noise.__main__ import main

    text = (ROOT / "examples/README.md").read_text()
    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    names = {
        "model": model,
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.01),
        "loader": torch.randn(2048, 3).split(512),
        "loss": lambda model, x: (model(x) - x.sum(1, keepdim=True) - 1).square().mean(),
    }
    for block in re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        exec(compile(block, "README.md", "exec"), names)
    printed = capsys.readouterr().out
    assert printed.startswith("noise scale: ")
    assert "At batch size 512" in printed
    (command,) = re.findall(r"^    adam-noise (.*)$", text, re.MULTILINE)
    assert main([*command.split(), "--format", "json"]) == 0
    said = json.loads(capsys.readouterr().out)["text"]
    (shown,) = re.findall(r"^```text\n(.*?)\n```", text, re.MULTILINE | re.DOTALL)
    assert said.startswith(shown)
