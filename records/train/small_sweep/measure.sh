#!/usr/bin/env bash
# The small Transformer-XL across its critical batch size, one core: `bash records/train/small_sweep/measure.sh`, from the
# project's folder. N=3 makes the next three panels only. A panel that exists is not made again; a killed one goes on
# where it was. Two of these commands share the cores: a panel that another one works on is passed over.
set -euo pipefail
cd "$(dirname "$0")/../../.."
PYTHON=${PYTHON:-.venv/bin/python}
"$PYTHON" -m train.small_study ${N:+--n-panels "$N"} | while read -r line; do
    out=${line##*--out }
    [ -e "$out" ] && continue
    # shellcheck disable=SC2086
    "$PYTHON" $line --no-progress < /dev/null || echo "left out: $out" >&2
done
