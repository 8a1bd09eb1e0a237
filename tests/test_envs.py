"""Pins, their sha256s and licences, conda files and container recipes agree; a file with another sha256 is refused."""

import csv
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
ENVS = ROOT / "envs"
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT, GROUPS = PYPROJECT["project"], PYPROJECT["dependency-groups"]
LIBRARY = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["torch"]
NAME = re.compile(r"[A-Za-z0-9_.-]+")
UV = Path(sys.executable).parent / "uv"


def lines(name):
    """Lines of a file of pins that begin a package, without what continues them."""
    text = (ENVS / name).read_text()
    return [line.removesuffix(" \\") for line in text.splitlines() if re.match("[a-z]", line)]


def pins_program():
    spec = importlib.util.spec_from_file_location("pins", ENVS / "pins.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_pins_cover_every_dependency_but_torch():
    asked = {NAME.match(line)[0] for group in [LIBRARY, *GROUPS.values()] for line in group}
    pinned = {NAME.match(line)[0] for line in lines("constraints.txt")}
    assert asked - pinned == {"torch"}
    for group in (LIBRARY, GROUPS["train"]):
        assert lines("bootstrap.txt") == [line for line in group if line.startswith("torch")]


def test_every_pin_has_sha256s():
    assert lines("hashes.txt") == lines("constraints.txt")
    assert set(lines("installer.txt")) <= set(lines("hashes.txt"))
    for name in ("hashes.txt", "installer.txt"):
        for block in re.split(r"\n(?=[a-z])", (ENVS / name).read_text())[1:]:
            assert re.search(r"\\\n    --hash=sha256:[0-9a-f]{64}", block), block.splitlines()[0]


def test_everything_installed_but_torch_is_pinned():
    """Also what no extra names: a dependency that came in behind the pins would show here."""
    pinned = {NAME.match(line)[0] for line in lines("constraints.txt")}
    gone = {"adam-minibatch-noise", "pip", "torch", "triton"}
    found = {re.sub(r"[-_.]+", "-", each.name).lower() for each in importlib.metadata.distributions()} - gone
    assert {name for name in found - pinned if not name.startswith(("nvidia-", "cuda-"))} == set()


def test_makefile_installs_nothing_but_torch_without_sha256s():
    makefile = (ROOT / "Makefile").read_text()
    for line in re.findall(r"^\t.*pip install.*$", makefile, re.MULTILINE):
        assert "--require-hashes" in line or line.endswith("-r envs/bootstrap.txt"), line
    (command,) = re.findall(r"^UV_PIP = (.*)$", makefile, re.MULTILINE)
    assert command.endswith("uv pip install -q -c envs/hashes.txt -b envs/hashes.txt")


FAKE = "#!/bin/sh\necho {} $* >> {}/log\n"


def script(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


@pytest.mark.parametrize("uv_at_hand", ["the pinned one", "another", "none"])
@pytest.mark.parametrize("index", ["answers", "silent", "silent, nothing in the cache"])
def test_make_installs_with_the_pinned_uv_and_from_its_cache_if_the_index_is_silent(
    tmp_path, uv_at_hand, index
):
    """`make` with programs that only write down how they were called in place of python3, pip and uv."""
    shutil.copytree(ENVS, tmp_path / "envs")
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    (pinned,) = re.findall(r"^uv==([0-9.]+)", (ENVS / "installer.txt").read_text(), re.MULTILINE)
    version = {"the pinned one": pinned, "another": f"{pinned}0"}.get(uv_at_hand)
    answer = {"answers": "exit 0", "silent": 'case "$*" in *--offline*) ;; *) exit 2;; esac'}.get(
        index, "exit 2"
    )
    uv = (
        FAKE.format("uv", tmp_path)
        + f'[ "$1" = --version ] && {{ echo "uv {version} (x)"; exit; }}\n{answer}\n'
    )
    pip = (
        FAKE.format("pip", tmp_path)
        + f'case "$*" in *installer.txt) cp {tmp_path}/uv {tmp_path}/.venv/bin/uv;; esac\n'
    )
    script(tmp_path / "uv", uv)
    script(tmp_path / "pip", pip)
    script(
        tmp_path / "python",
        f"#!/bin/sh\n[ $1 = -m ] || exit 0\nmkdir -p $3/bin; cp {tmp_path}/pip $3/bin/python\n",
    )
    if version:
        script(tmp_path / "path/uv", uv)
    environment = {**os.environ, "PATH": f"{tmp_path}/path:/usr/bin:/bin"}
    command = ["make", ".venv/installed", f"PYTHON={tmp_path}/python"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    works = index != "silent, nothing in the cache"
    assert (done.returncode == 0) == works == (tmp_path / ".venv/installed").exists(), done.stderr
    log = [line for line in (tmp_path / "log").read_text().splitlines() if "--version" not in line]
    hashed = "pip -m pip install -q --disable-pip-version-check --require-hashes -r envs/installer.txt"
    assert (log[0] == hashed) == (uv_at_hand != "the pinned one")
    installs = [
        line for line in log if line.startswith("uv pip install -q -c envs/hashes.txt -b envs/hashes.txt")
    ]
    assert ["--offline" in line for line in installs] == ([False] if index == "answers" else [False, True])
    groups = ("sim", "train", "analysis", "paper", "workflow", "cluster", "docs", "test")
    stages = " ".join(f"--group {group}" for group in groups)
    assert all(line.endswith("-e . " + stages) for line in installs)
    assert ("uv's cache alone" in done.stderr) == (index != "answers")


def wheel(path):
    with zipfile.ZipFile(path / "harmless-1-py3-none-any.whl", "w") as file:
        file.writestr("harmless.py", "")
        about = "harmless-1.dist-info"
        file.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: harmless\nVersion: 1\n")
        file.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{about}/RECORD", "")
    return path / "harmless-1-py3-none-any.whl"


@pytest.mark.parametrize("right", [True, False])
def test_a_file_with_another_sha256_is_refused(tmp_path, right):
    import hashlib

    digest = hashlib.sha256(wheel(tmp_path).read_bytes()).hexdigest() if right else 64 * "0"
    (tmp_path / "hashes.txt").write_text(f"harmless==1 \\\n    --hash=sha256:{digest}\n")
    command = [UV, "pip", "install", "-q", "-c", "hashes.txt", "-b", "hashes.txt", "harmless>=1"]
    offline = ["--target", "out", "--no-index", "--find-links", ".", "--no-cache"]
    done = subprocess.run([*command, *offline], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == right, done.stderr
    assert (tmp_path / "out/harmless.py").exists() == right


def test_licences_cover_every_pin_and_none_is_unknown():
    with open(ENVS / "LICENSES.csv", newline="") as file:
        table = {row["package"]: row["license"] for row in csv.DictReader(file)}
    assert set(table) == {NAME.match(line)[0] for line in lines("constraints.txt")} | {"torch"}
    assert not {name for name, text in table.items() if not text or "unknown" in text.lower()}


def test_licences_are_those_of_what_is_installed():
    pins = pins_program()
    n_seen = 0
    with open(ENVS / "LICENSES.csv", newline="") as file:
        for row in csv.DictReader(file):
            try:
                found = importlib.metadata.distribution(row["package"])
            except importlib.metadata.PackageNotFoundError:
                continue
            if found.version == row["version"]:
                assert pins.licence(found) == row["license"], row["package"]
                n_seen += 1
    assert n_seen > 50


@pytest.mark.parametrize("stage", ["sim", "train", "analysis", "paper"])
def test_conda_files_hold_the_stage_at_the_pinned_versions(stage):
    packages = yaml.safe_load((ENVS / f"{stage}.yaml").read_text())["dependencies"]
    pip = packages[-1]["pip"]
    pinned = {line.partition(" ;")[0] for line in (*lines("constraints.txt"), *lines("bootstrap.txt"))}
    assert {line.partition(" ;")[0] for line in pip} <= pinned
    asked = {NAME.match(line)[0] for line in PROJECT["dependencies"] + GROUPS[stage]}
    assert asked <= {NAME.match(line)[0] for line in pip}
    assert packages[:-1] == [f"python={python_of_the_image()}", "pip"]


def python_of_the_image():
    return re.search(r"^FROM docker\.io/library/python:([\d.]+)-slim", containerfile(), re.MULTILINE)[1]


def containerfile():
    return (ENVS / "Containerfile").read_text()


def copied():
    """What the container recipe takes from the checkout."""
    groups = re.findall(r"^COPY (.*) \S+$", containerfile(), re.MULTILINE)
    return [name for group in groups for name in group.split()]


def test_container_recipes_agree():
    recipe = (ENVS / "apptainer.def").read_text()
    home = "/opt/adam-minibatch-noise"
    files = re.search(r"%files\n((?:    .*\n)+)", recipe)[1].split()
    assert dict(zip(files[::2], files[1::2], strict=True)) == {name: f"{home}/{name}" for name in copied()}
    (image,) = re.findall(r"^FROM docker\.io/library/(.*)$", containerfile(), re.MULTILINE)
    assert f"\nFrom: {image}\n" in recipe
    runs = re.findall(r"^RUN (.*)$", containerfile(), re.MULTILINE)
    steps = [step.strip() for step in re.search(r"%post\n((?:    .*\n)+)", recipe)[1].splitlines()]
    assert [step for step in steps if step != f"cd {home}"] == runs
    assert runs[-1] == "make .venv/installed"
    assert f"WORKDIR {home}\n" in containerfile()
    for text in (recipe, containerfile()):
        assert f"PATH={home}/.venv/bin:$PATH" in text


def test_files_of_the_container_suffice_to_install(tmp_path):
    for name in copied():
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    steps = subprocess.run(
        ["make", "--dry-run", ".venv/installed"], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout
    for name in re.findall(r"envs/[\w.]+", steps):
        assert (tmp_path / name).is_file()
    build = [UV, "build", "-q", "--wheel", "--offline", "--no-build-isolation", "--out-dir", "out"]
    python = os.environ | {"VIRTUAL_ENV": str(Path(sys.executable).parent.parent)}
    subprocess.run([*build, "--python", sys.executable], cwd=tmp_path, env=python, check=True)
    (built,) = (tmp_path / "out").glob("*.whl")
    names = zipfile.ZipFile(built).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"adam_minibatch_noise"}
    assert {"adam_minibatch_noise/theory.py", "adam_minibatch_noise/py.typed"} <= set(names)
