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
    samples = torch.randn(4, 512, 3)
    names = {
        "model": model,
        "loader": samples,
        "batch": samples[0].split(128),
        "loss": lambda model, micro_batch: (model(micro_batch) - 1).square().mean(),
        "optimizer": torch.optim.SGD(model.parameters(), lr=1e-3),
    }
    before = names["loss"](model, samples[0]).item()
    for example in EXAMPLES:
        exec(compile(example, "README.md", "exec"), names)
    assert len(EXAMPLES) == 2
    assert names["loss"](model, samples[0]).item() < before
    result = names["meter"].result()
    assert result.n_measurements == 4
    assert "batch size 512" in capsys.readouterr().out
