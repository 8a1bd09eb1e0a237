"""Kill -9 a training once it has saved its state, whatever the speed of the machine."""

import signal
import subprocess
import time

from train.runtime import checkpoints


def kill_in_the_middle(command, state, out):
    """Start a training that saves its state after every step, and kill it when that is there and its result is not.

    One that is over before it is killed is started anew.

    Parameters
    ----------
    command : list of str
    state, out : path
    """
    for _ in range(20):
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                while process.poll() is None and not checkpoints.exists(state):
                    time.sleep(0.002)
                time.sleep(0.1)
            finally:
                process.kill()
        assert process.returncode in (0, -signal.SIGKILL)
        if checkpoints.exists(state) and not out.exists():
            return
        out.unlink(missing_ok=True)
    raise AssertionError("the training is always over before it can be killed")
