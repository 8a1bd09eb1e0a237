#!/usr/bin/env bash
# The study of the best betas, four seeds of every variant at a time: `bash records/overfitting/measure.sh`, from the
# project's folder. A table that exists is not measured again; a killed command goes on where it was.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${PYTHON:-.venv/bin/python}
for first in ${FIRST_SEEDS:-0 4 8 12 16}; do
  for variant in ${VARIANTS:-digits digits-wrong-30 words characters regression cnn cnn-wrong-20 digits-wrong-10 words-frozen digits-replacement words-one-hot digits-map words-map digits-wrong-30-map}; do
    table=records/overfitting/$variant-seeds-$first.csv.gz
    [ -e "$table" ] || "$python" -m sim.overfitting_study --variant "$variant" --first-seed "$first" --n-seeds 4 --out "$table"
  done
done
