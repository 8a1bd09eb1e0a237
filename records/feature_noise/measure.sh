#!/usr/bin/env bash
# The studies of stochastic Adam at the published size, one CPU core a table: `bash records/feature_noise/measure.sh [TABLE...]`.
# Seeds and lengths below were fixed before the runs; the acceptance rules are in sim/feature_noise/studies.py. A table that
# exists is left as it is. Runs are 10^4 epochs as published, but where a comment says otherwise.
set -euo pipefail
cd "$(dirname "$0")/../.."
PYTHON=${PYTHON:-python}
WANTED=" $* "

measure() {
  local table="$1" out="records/feature_noise/$1"
  shift
  if [ "$WANTED" = "  " ] || [[ "$WANTED" == *" $table "* ]]; then
    [ -e "$out.csv" ] || "$PYTHON" -m sim.feature_noise_studies "$@" --n-threads 1 --format csv --out "$out.csv" --how "$out.json"
  fi
}

measure table_large --study table --n-seeds 5 --n-records 24 --cases b100
measure table_small --study table --n-seeds 5 --n-records 24 --cases b2
measure choices --study choices --n-seeds 5 --n-records 1
measure steps --study steps --n-steps 200000 --n-seeds 5 --n-records 12 # ten times as many steps, not fifty
measure steps_full --study steps --n-seeds 5 --n-records 12 --cases 'lr x' 'lr /' 'b2 many steps' # fifty; without batch 100 for 10^6 steps; added after
measure betas_large --study betas --n-seeds 5 --n-records 6 --cases b100
measure betas_small --study betas --n-epochs 2000 --n-seeds 5 --n-records 6 --cases b2 # a fifth as long
measure replacement_large --study replacement --n-seeds 5 --n-records 1 --cases b100
measure replacement_small --study replacement --n-epochs 2000 --n-seeds 5 --n-records 1 --cases b2 # a fifth as long
measure supports_large --study supports --n-seeds 5 --n-records 1 --cases b100
measure supports_small --study supports --n-epochs 2000 --n-seeds 5 --n-records 1 --cases b2 # a fifth as long
measure batch --study batch --n-epochs 5000 --n-seeds 5 --n-records 1 # half as long
measure decay --study decay --n-epochs 1000 --n-seeds 3 --n-records 1 --n-test 2000 # a tenth as long, fewer seeds
measure optimizers --study optimizers --n-seeds 5 --n-records 1 --cases 'published lr'
measure activations --study activations --n-seeds 5 --n-records 1 --cases 'published lr'
measure optimizers_rule --study optimizers --n-seeds 5 --n-records 1 --cases 'by rule'
measure activations_lr --study activations --n-seeds 5 --n-records 1 --cases 'lr x' 'lr /'
measure optimizers_lr_x4 --study optimizers --n-seeds 5 --n-records 1 --cases 'lr x 4'
# For lack of time without invariant Adam, which is rescued at the published learning rate:
measure optimizers_lr_x16 --study optimizers --n-seeds 5 --n-records 1 --cases 'w, lr x 16' 'm, lr x 16' '9, lr x 16' 'h, lr x 16'
measure optimizers_lr_over4 --study optimizers --n-seeds 5 --n-records 1 --cases 'w, lr / 4' 'm, lr / 4' '9, lr / 4' 'h, lr / 4'
