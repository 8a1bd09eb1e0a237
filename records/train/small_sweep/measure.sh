#!/usr/bin/env bash
# The small Transformer-XL across its critical batch size: `bash records/train/small_sweep/measure.sh`, from the project's
# folder. N=3 makes the next three panels only; P=2 makes two at a time, one core each; DEVICE=cuda makes them on a GPU.
# A panel that exists is not made again; a killed one goes on where it was; one that fails is left out.
set -euo pipefail
cd "$(dirname "$0")/../../.."
export PYTHON=${PYTHON:-.venv/bin/python}
"$PYTHON" -m train.small_study --device "${DEVICE:-cpu}" ${N:+--n-panels "$N"} |
    xargs -P "${P:-1}" -I LINE bash -c '"$PYTHON" LINE --no-progress < /dev/null || echo "left out: LINE" >&2'
