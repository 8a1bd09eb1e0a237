"""Write the pins: exact versions, their sha256, and the licence of each package (`make pins`).

`constraints.txt` holds versions alone; `hashes.txt` the same versions with the sha256 of every file of theirs, for uv,
which refuses a file that has another; a stage's `STAGE.yaml` what `snakemake --sdm conda` installs for it;
`LICENSES.csv` what each package says of its licence.
torch is a range (`bootstrap.txt`), so that each machine takes the build made for it; what torch needs is pinned.
"""

import argparse
import csv
import importlib.metadata
import io
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
UV = str(Path(sys.executable).parent / "uv")
TORCH_NEEDS = ("filelock", "fsspec", "networkx", "jinja2", "sympy", "typing-extensions")
HEADER = "# {}. Made by 'make pins'; edit pyproject.toml, not this file.\n"
PIN = re.compile(r"^([a-z0-9_.-]+)==(\S+)", re.MULTILINE)
TRAINERS = ("huggingface", "lightning")
"""Extras for other people's trainers, which a checkout does not install: their users have versions of their own."""
STAGES = ("sim", "train", "analysis", "paper")
CONDA = """\
# For `snakemake --sdm conda`: all that the stage needs, at the pinned versions. Made by 'make pins'.
channels: [conda-forge]
dependencies:
  - python=3.11
  - pip
  - pip:
"""
NAMES = {
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}
"""Classifiers of PyPI that name a licence, in the words of SPDX."""
APPROVED = ("OSI Approved", "DFSG approved")
"""Classifiers beside them that name none."""


def wanted(*stages: str) -> tuple[list[str], list[str]]:
    """Return what pyproject.toml asks for in these groups (none: in all, and for the library): torch, and the rest."""
    about = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = {k: v for k, v in about["project"]["optional-dependencies"].items() if k not in TRAINERS}
    groups = about["dependency-groups"] | ({} if stages else extras)
    lines = about["project"]["dependencies"] + [line for stage in stages or groups for line in groups[stage]]
    torch = sorted({line for line in lines if line.startswith("torch")})
    return torch, [line for line in lines if line not in torch] + (list(TORCH_NEEDS) if torch else [])


def resolve(lines: list[str], versions: str, *flags: str) -> str:
    """Return what `lines` need, at one version for each Python and platform, keeping `versions` where they fit."""
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder, "wanted.in"), Path(folder, "pins.txt")
        source.write_text("\n".join(lines))
        out.write_text(versions)  # uv keeps the versions that it finds in its output file
        command = [UV, "pip", "compile", "-q", "--universal", "--python-version", "3.11", "--no-header"]
        subprocess.run([*command, "--no-annotate", *flags, source, "-o", out], check=True)
        return out.read_text()


def conda(stage: str, versions: str) -> str:
    """Return the conda file of a stage: its packages by pip, since conda's own may differ from those of the pins."""
    torch, rest = wanted(stage)
    lines = [*torch, *resolve(rest, versions).splitlines()]
    return CONDA + "".join(f'      - "{line}"\n' for line in lines)


def licence(distribution: importlib.metadata.Distribution) -> str:
    """Return what a package states: SPDX expression, classifier, field, or the first line of its licence file."""
    about = distribution.metadata
    if expression := about.get("License-Expression"):
        return expression
    found = [
        line.split(" :: ")[-1] for line in about.get_all("Classifier", []) if line.startswith("License ::")
    ]
    if found := [NAMES.get(name, name) for name in found if name not in APPROVED]:
        return " OR ".join(found)
    if field := (about.get("License") or "").strip():
        return field.splitlines()[0]
    files = [path for path in distribution.files or [] if path.name.upper().startswith("LICEN")]
    first = [line.strip() for path in files for line in path.read_text().splitlines() if line.strip()]
    return first[0].removesuffix(" License") if first else "unknown"


def licences(pins: str) -> str:
    """Install the pinned versions into a folder, whatever their platform, and return a table of licences as CSV."""
    versions = dict(reversed(PIN.findall(pins)))  # the first version of a name is that of the oldest Python
    versions.pop("torch", None)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["package", "version", "license"])
    with tempfile.TemporaryDirectory() as folder:
        exact = [f"{name}=={version}" for name, version in sorted(versions.items())]
        subprocess.run([UV, "pip", "install", "-q", "--no-deps", "--target", folder, *exact], check=True)
        found = {_plain(each.name): each for each in importlib.metadata.distributions(path=[folder])}
        found["torch"] = importlib.metadata.distribution("torch")
        for name in sorted([*versions, "torch"]):
            version = "any of envs/bootstrap.txt" if name == "torch" else versions[name]
            writer.writerow([name, version, licence(found[_plain(name)])])
    return text.getvalue()


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def main() -> None:
    """Write the files."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--upgrade", action="store_true", help="take new versions within pyproject.toml's ranges"
    )
    upgrade = parser.parse_args().upgrade
    lines = [*wanted()[1], "setuptools>=77", "uv"]
    pins = resolve(lines, "" if upgrade else (ROOT / "envs/constraints.txt").read_text(), "--generate-hashes")
    blocks = {line.split("==")[0]: line for line in re.split(r"\n(?=[a-z])", pins.strip())}
    plain = (
        re.sub(r" \\$", "", "\n".join(re.findall(r"^[a-z].*$", pins, re.MULTILINE)), flags=re.MULTILINE)
        + "\n"
    )
    files = {
        "constraints.txt": HEADER.format("Exact versions of everything but torch") + plain,
        "hashes.txt": HEADER.format("The versions of constraints.txt, with the sha256 of their files") + pins,
        "installer.txt": HEADER.format("What installs the rest") + blocks["uv"] + "\n",
        **{f"{stage}.yaml": conda(stage, plain) for stage in STAGES},
        "LICENSES.csv": licences(pins),
    }
    for name, text in files.items():
        (ROOT / "envs" / name).write_text(text)


if __name__ == "__main__":
    main()
