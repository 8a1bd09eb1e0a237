#!/usr/bin/env bash
# The noise of every component of the gradient at the best points of beta1 = .9, beta2 = .999, at the learning rate tuned
# for each batch size in records/overfitting: `bash records/overfitting_noise/measure.sh`, from the project's folder.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${PYTHON:-.venv/bin/python}
measure() {
  table=records/overfitting_noise/$1.csv.gz
  [ -e "$table" ] || "$python" -m sim.overfitting_noise --variant "$1" --n-seeds "$2" --batch-sizes $3 --lrs $4 --out "$table"
}
measure regression 20 "1 4 16 64" "3e-3 1e-3 1e-4 1e-4"
measure digits 8 "1 4 16 64 256" "1e-3 3e-3 3e-3 3e-3 3e-3"
measure digits-wrong-30 8 "1 4 16 64 256" "1e-3 1e-3 3e-3 1e-2 3e-2"
