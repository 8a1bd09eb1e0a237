"""A stranger's install: the wheel beside NumPy, torch and what they need, and a script of theirs called train.py."""

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from adam_minibatch_noise.expansion import exact_c_total

ROOT = Path(__file__).parent.parent
UV = Path(sys.executable).with_name("uv")
SOURCES = ("adam_minibatch_noise", "pyproject.toml", "README.md", "LICENSE")

# What a user may well have beside their script; the names are those of folders of this repository.
USER_FILES = {
    "common.py": "SEED = 20260202\nN_FEATURES = 8\n",
    "sim.py": """\
import torch
from common import N_FEATURES


def balanced_signs(n_samples):
    "Every combination of signs equally often: mean 0 and covariance 1, exactly."
    bits = torch.arange(n_samples)[:, None] >> torch.arange(N_FEATURES) & 1
    return 2.0 * bits - 1.0
""",
    "analysis.py": "import json\n\n\ndef report(**values):\n    print(json.dumps(values))\n",
    "train.py": """\
import torch
from torch import nn

import adam_minibatch_noise
from adam_minibatch_noise.advice import advise, rule_of_thumb
from adam_minibatch_noise.expansion import exact_c_total
from adam_minibatch_noise.noise_scale import TwoBatchEstimator, sq_norm
from adam_minibatch_noise.optimizers import BatchSizeInvariantAdamW, scale_from_reference
from adam_minibatch_noise.theory import noise_to_signal
from analysis import report
from common import SEED
from sim import balanced_signs

torch.manual_seed(SEED)
inputs = balanced_signs(512)

# a small network, in batches of 64 of 4 micro-batches each
targets = inputs[:, :1] * inputs[:, 1:2]
model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))
settings = scale_from_reference(batch_size=64, reference_batch_size=16, lr=0.005, betas=(0.9, 0.99))
optimizer = BatchSizeInvariantAdamW(model.parameters(), lr=settings.lr, betas=settings.betas)
losses = [nn.functional.mse_loss(model(inputs), targets).item()]
for epoch in range(40):
    for batch in torch.randperm(512).split(64):
        for micro_batch in batch.split(16):
            nn.functional.mse_loss(model(inputs[micro_batch]), targets[micro_batch]).backward()
            optimizer.accumulate()
        optimizer.step()
losses.append(nn.functional.mse_loss(model(inputs), targets).item())

# 1/2 |theta - x|^2 at theta = 0 with x = 1/2 + 2 signs: |g|^2 = 8/4, tr(Sigma) = 8 * 4, a noise scale of 16
theta, samples = nn.Parameter(torch.zeros(8)), 0.5 + 2 * inputs
meter = TwoBatchEstimator(n_samples=512, small_size=4, big_size=64)
for _ in range(400):
    batch = samples[torch.randperm(512)[:64]]
    squares = []
    for part in (batch[:4], batch):
        (gradient,) = torch.autograd.grad(0.5 * (theta - part).square().sum(dim=1).mean(), theta)
        squares.append(sq_norm([gradient]))
    meter.add(*squares)
noise = meter.result()
lam = float(noise_to_signal(512, 64, noise.b_simple))
report(
    file=adam_minibatch_noise.__file__,
    losses=losses,
    noise=[noise.low, noise.b_simple, noise.high],
    lam=lam,
    c_total=exact_c_total(0.9, 0.999, lam, n_batches=8),
    regime=rule_of_thumb(lam).regime,
    rules=[rule["name"] for rule in advise(512, 64, noise, n_epochs=3).rules],
)
""",
}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Build the wheel from a copy, so that nothing is left in the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    for package in ("common", "sim", "train", "analysis"):  # what must not get in
        shutil.copytree(ROOT / package, folder / package)
    command = [UV, "build", "-q", "--wheel", "--offline", "--no-build-isolation", "--out-dir", "out"]
    environment = os.environ | {"VIRTUAL_ENV": str(Path(sys.executable).parent.parent)}
    subprocess.run([*command, "--python", sys.executable], cwd=folder, env=environment, check=True)
    (wheel,) = (folder / "out").glob("*.whl")
    return wheel


def about(wheel):
    with zipfile.ZipFile(wheel) as file:
        (name,) = (name for name in file.namelist() if name.endswith(".dist-info/METADATA"))
        return Parser().parsestr(file.read(name).decode())


def distributions_needed(wheel, extra):
    """What is installed here of all that the wheel asks for, and what that asks for in turn."""
    found, waiting = {}, [(Requirement(line), extra) for line in about(wheel).get_all("Requires-Dist")]
    while waiting:
        requirement, wanted = waiting.pop()
        name = canonicalize_name(requirement.name)
        asked = requirement.marker is None or requirement.marker.evaluate({"extra": wanted})
        if asked and name not in found:
            found[name] = importlib.metadata.distribution(name)
            waiting += [(Requirement(line), "") for line in found[name].requires or []]
    return found


@pytest.fixture(scope="module")
def fresh(built, tmp_path_factory):
    """An environment with the wheel, the packages that it asks for, and no other.

    Those packages are links to the copies of the environment that runs the tests; uv finds by their metadata that
    nothing is missing, or stops.
    """
    folder = tmp_path_factory.mktemp("fresh")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (site_packages,) = folder.glob("lib/python3*/site-packages")
    for each in distributions_needed(built, "torch").values():
        for top in {file.parts[0] for file in each.files} - {"..", "__pycache__"}:
            link = site_packages / top
            if top.endswith(".dist-info"):
                shutil.copytree(each.locate_file(top), link)  # uv reads those of folders only
            elif not top.endswith(".pth") and not link.exists():
                link.symlink_to(each.locate_file(top))
    install = [UV, "pip", "install", "-q", "--offline", "--no-index", "--no-cache"]
    subprocess.run([*install, "--python", folder / "bin/python", f"{built}[torch]"], check=True)
    return folder


@pytest.mark.slow
def test_the_wheel_holds_the_library_alone(built):
    names = zipfile.ZipFile(built).namelist()
    assert {name.split("/")[0].removesuffix(".dist-info") for name in names} == {
        "adam_minibatch_noise",
        f"adam_minibatch_noise-{about(built)['Version']}",
    }
    inside = {name for name in names if name.startswith("adam_minibatch_noise/")}
    tracked = {
        path
        for path in (ROOT / "adam_minibatch_noise").rglob("*")
        if path.suffix in (".py", ".typed", ".json")
    }
    assert inside == {str(path.relative_to(ROOT)) for path in tracked}
    assert "adam_minibatch_noise/py.typed" in inside


@pytest.mark.slow
def test_the_wheel_asks_for_numpy_and_for_the_rest_with_extras(built):
    metadata = about(built)
    needed = {}
    for line in map(Requirement, metadata.get_all("Requires-Dist")):
        extra = re.search(r'extra == "(\w+)"', str(line.marker))
        needed.setdefault(extra and extra[1], set()).add(line.name)
    assert needed == {
        None: {"numpy"},
        "torch": {"torch", "scipy"},
        "cli": {"rich"},
        "huggingface": {"transformers", "accelerate"},
        "lightning": {"lightning"},
        "symbolic": {"sympy"},
    }
    assert (metadata["License-Expression"], metadata["License-File"]) == ("MIT", "LICENSE")
    assert metadata["Description-Content-Type"] == "text/markdown"


@pytest.mark.slow
def test_a_script_called_train_trains_and_measures_with_the_wheel(fresh, tmp_path):
    for name, text in USER_FILES.items():
        (tmp_path / name).write_text(text)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    command = [fresh / "bin/python", "-W", "error", "train.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert Path(found["file"]).is_relative_to(fresh)
    before, after = found["losses"]
    assert before > 0.9
    assert after < 0.05
    low, estimate, high = found["noise"]
    assert low < 16 < high
    assert low < estimate < high < 1.5 * low
    assert found["lam"] == pytest.approx(7 / 511 * estimate)
    assert found["regime"] == "signal"
    assert "c_total" in found["rules"]
    assert found["c_total"] == pytest.approx(exact_c_total(0.9, 0.999, found["lam"], n_batches=8))


@pytest.mark.slow
def test_the_command_for_advice_is_installed_and_prints_plain_text_without_rich(fresh, tmp_path):
    flags = ["--n-samples", "50000", "--batch-size", "512", "--noise-scale", "229", "300"]
    done = subprocess.run(
        [fresh / "bin/adam-noise", "advise", *flags], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "noise to signal of a batch" in done.stdout
    assert "square-root rule" in done.stdout


@pytest.mark.slow
def test_the_fresh_environment_has_nothing_of_the_checkout(fresh):
    code = (
        "import importlib.util as u; print([n for n in "
        "('common', 'sim', 'train', 'analysis', 'numba', 'pandas', 'matplotlib', 'pytest') if u.find_spec(n)])"
    )
    done = subprocess.run(
        [fresh / "bin/python", "-I", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
