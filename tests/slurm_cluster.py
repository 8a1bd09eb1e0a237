"""A real Slurm of two nodes on this machine, in a folder of its own, without systemd.

A node is a slurmd in a process namespace of its own: to kill the namespace takes the node's jobs with it, as a power
cut would. What `available` names must be installed; nothing is written outside the folder.
"""

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "unshare")
NODES = ("n1", "n2")
CONFIG = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=1,bf_interval=1
SlurmdParameters=config_overrides
MinJobAge=300
JobRequeue=0
SlurmdTimeout=15
ReturnToService=2
KillWait=2
GresTypes=gpu
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2 RealMemory=16000 Gres=gpu:1
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=2 RealMemory=16000 Gres=gpu:1
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
"""


def missing():
    """Return why no cluster can be started here, or an empty string."""
    absent = [name for name in PROGRAMS if not shutil.which(name, path=search_path())]
    if absent:
        return f"{', '.join(absent)} not installed (Debian: slurm-wlm, munge)"
    if not Path("/etc/slurm").is_dir():
        return "no folder /etc/slurm, where the steps of a job look for their configuration"
    if os.geteuid():
        return "Slurm's daemons need root"
    namespace = subprocess.run(["unshare", "--pid", "--fork", "--mount-proc", "true"], check=False)
    return "no process namespaces here" if namespace.returncode else ""


def search_path():
    """Return PATH with the folders of daemons."""
    return os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"])


class Cluster:
    """Start munged, slurmctld and a slurmd a node; `environment` makes Slurm's commands talk to them."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.processes: dict[str, subprocess.Popen] = {}
        self.environment = {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": search_path()}
        folder.chmod(0o755)  # munged refuses a folder that others may write to
        (folder / "state").mkdir()
        (folder / "munge.key").write_bytes(os.urandom(1024))
        (folder / "munge.key").chmod(0o400)
        host = socket.gethostname().split(".")[0]
        config = CONFIG.format(host=host, folder=folder, ports=_free_ports(3))
        (folder / "slurm.conf").write_text(config)
        (folder / "gres.conf").write_text("NodeName=n[1-2] Name=gpu File=/dev/null\n")

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            stack.callback(self.stop)
            files = {
                "socket": "socket",
                "key-file": "key",
                "log-file": "log",
                "pid-file": "pid",
                "seed-file": "seed",
            }
            flags = [f"--{flag}={self.folder}/munge.{suffix}" for flag, suffix in files.items()]
            self.start("munged", ["munged", "--foreground", *flags])
            self.wait_for("munged", lambda: (self.folder / "munge.socket").exists())
            self.start("slurmctld", ["slurmctld", "-D", "-f", str(self.folder / "slurm.conf")])
            for node in NODES:
                self.start_node(node)
            self.wait_for(
                "the nodes", lambda: self.ask("sinfo", "-N", "-h", "-o", "%T").split() == ["idle"] * 2
            )
            stack.pop_all()
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self, name, command):
        """Start a daemon in the foreground, in a session of its own."""
        with open(self.folder / f"{name}.out", "wb") as out:
            self.processes[name] = subprocess.Popen(
                command, env=os.environ | self.environment, stdout=out, stderr=out, start_new_session=True
            )

    def start_node(self, node):
        """Start a slurmd as the first process of a namespace."""
        # Snakemake hides SLURM_CONF from a job's steps, which then look for /etc/slurm: show them this folder there.
        slurmd = f'mount --bind "$0" /etc/slurm && exec slurmd -D -N {node} -f "$0/slurm.conf"'
        space = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
        self.start(node, [*space, "sh", "-c", slurmd, str(self.folder)])

    def kill_node(self, node):
        """Kill a slurmd and every process of its jobs at once."""
        self.processes[node].kill()
        self.processes.pop(node).wait()

    def ask(self, *command):
        """Return what one of Slurm's commands prints."""
        done = subprocess.run(
            command,
            env=os.environ | self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        return done.stdout

    def wait_for(self, what, condition, seconds=300):
        """Wait until a condition holds."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                logs = "\n".join(path.read_text()[-2000:] for path in sorted(self.folder.glob("*.log")))
                raise TimeoutError(f"{what} after {seconds} s\n{logs}")
            time.sleep(0.05)

    def stop(self):
        """Kill all that was started, the nodes first."""
        for name in reversed(list(self.processes)):
            process = self.processes.pop(name)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # slurmctld has a helper
            process.wait()


def _free_ports(n_ports):
    """Free ports below those that Linux gives to outgoing connections, which come and go while the cluster starts."""
    found = []
    with contextlib.ExitStack() as stack:
        for port in random.sample(range(20000, 32000), 1000):
            each = stack.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                each.bind(("127.0.0.1", port))
                found.append(port)
            if len(found) == n_ports:
                return found
    raise AssertionError("no free port")
