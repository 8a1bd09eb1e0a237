"""The README's examples for users of the library run as they are printed."""

import re
from pathlib import Path

import torch
from torch import nn

README = (Path(__file__).parent.parent / "README.md").read_text()
EXAMPLES = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def test_the_examples_for_users_run(capsys):
    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    samples = torch.randn(512, 3)
    gradients = {n: [torch.randn(5) / n**0.5 + 0.1] for n in (64, 512)}
    names = {
        "model": model,
        "batch": samples.split(128),
        "loss": lambda model, micro_batch: (model(micro_batch) - 1).square().mean(),
        "gradients_of_64": gradients[64],
        "gradients_of_512": gradients[512],
    }
    before = names["loss"](model, samples).item()
    for example in EXAMPLES:
        exec(compile(example, "README.md", "exec"), names)
    assert len(EXAMPLES) == 3
    assert names["loss"](model, samples).item() < before
    assert names["noise"].n_measurements == 1
    c_total, advice = capsys.readouterr().out.splitlines()
    assert float(c_total) > 0  # at a noise-to-signal ratio of 0.58
    assert advice.startswith("between the critical batch sizes")
