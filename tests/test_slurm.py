"""The workflow on a real Slurm: same bytes as without it, resources as stated, and a node that dies."""

import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
import yaml

from tests import slurm_cluster
from tests.checkouts import SNAKEMAKE, copy_to, environment, snakemake

REASON = slurm_cluster.missing()
pytestmark = [pytest.mark.slow, pytest.mark.faults, pytest.mark.skipif(bool(REASON), reason=REASON)]

TERMS = "results-test/sim/terms/moments.csv"
TURNING = "results-test/sim/turning.csv"
TRAINING = "results-test/train/sweep/beta2_b64_lr0.002.csv"
TARGETS = [TRAINING, TERMS, TURNING]
PROFILE = ["--profile", "profiles/slurm", "--slurm-init-seconds-before-status-checks", "2"]


@pytest.fixture(scope="module")
def cluster():
    folder = Path(tempfile.mkdtemp(prefix="slurm", dir="/tmp"))  # a socket's path may not be long
    try:
        with slurm_cluster.Cluster(folder) as cluster, pytest.MonkeyPatch.context() as patch:
            for name, value in cluster.environment.items():
                patch.setenv(name, value)
            yield cluster
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """Small configuration whose training asks for a GPU and takes some ten seconds."""
    folder = copy_to(tmp_path_factory.mktemp("slurm"))
    config = yaml.safe_load((folder / "config/test.yaml").read_text())
    config["train"]["sweep"] |= {"gpu": 1, "minutes": 7}
    config["train"]["sweep"]["settings"] |= {"n_epochs": 8, "patience": 8, "checkpoint_seconds": 0.2}
    (folder / "config/slurm.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return folder


@pytest.fixture(scope="module")
def local(checkout):
    """Bytes of the tables that a run without Slurm makes."""
    done = snakemake(checkout, *TARGETS, config="config/slurm.yaml")
    assert done.returncode == 0, done.stderr[-3000:]
    return take(checkout)


def take(checkout):
    """Read all tables and take the results away."""
    found = {
        str(path.relative_to(checkout)): path.read_bytes() for path in checkout.glob("results-test/**/*.csv")
    }
    shutil.rmtree(checkout / "results-test")
    shutil.rmtree(checkout / ".snakemake")
    return found


def logs(checkout):
    """Ends of the logs of jobs that failed."""
    return "\n".join(path.read_text()[-2000:] for path in checkout.glob(".snakemake/slurm_logs/**/*.log"))


@pytest.fixture(scope="module")
def run(checkout, local, cluster):
    """Run on the cluster, with the node that trains killed in the middle; return what is known afterwards."""
    command = [*SNAKEMAKE, *PROFILE, *TARGETS, "--configfile", "config/slurm.yaml"]
    with open(checkout / "out", "wb") as out:
        process = subprocess.Popen(command, cwd=checkout, env=environment(checkout), stdout=out, stderr=out)
    try:
        work = checkout / TRAINING.replace("results-test", "results-test/checkpoints").removesuffix(".csv")
        cluster.wait_for("training", lambda: any(work.glob("*.pt")), seconds=600)
        jobs = cluster.ask("squeue", "-h", "-t", "running", "-o", "%N %k").splitlines()
        (node,) = (line.split()[0] for line in jobs if "rule_train_sweep" in line)
        cluster.kill_node(node)
        assert not (checkout / TRAINING).exists()
        process.wait(timeout=1500)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, (checkout / "out").read_text()[-3000:] + logs(checkout)
    columns = "Comment:80,State:20,RestartCnt:10,tres-alloc:60,TimeLimit:20,tres-per-job:20"
    listed = [line.split() for line in cluster.ask("squeue", "-t", "all", "-h", "-O", columns).splitlines()]
    jobs = {comment.split("_wildcards")[0]: facts for comment, *facts in listed}
    state = cluster.ask("sinfo", "-h", "-n", node, "-o", "%T").strip()
    return {"tables": take(checkout), "jobs": jobs, "state of the node": state}


def test_slurm_gives_the_bytes_of_a_local_run_though_a_node_dies(run, local):
    assert run["tables"] == local


def test_job_of_a_dead_node_runs_again_on_another(run):
    assert run["state of the node"].startswith("down")
    assert run["jobs"]["rule_train_sweep"][:2] == ["COMPLETED", "1"]


def test_jobs_ask_slurm_for_what_their_rules_state(run):
    assert {rule: facts[2:] for rule, facts in run["jobs"].items()} == {
        "rule_sim_terms": ["cpu=1,mem=2000M,node=1,billing=1", "1:00:00", "N/A"],
        "rule_sim_turning": ["cpu=1,mem=2000M,node=1,billing=1", "1:00:00", "N/A"],
        "rule_train_sweep": ["cpu=1,mem=8000M,node=1,billing=1", "7:00", "gres:gpu:1"],
    }
