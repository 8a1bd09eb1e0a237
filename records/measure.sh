#!/usr/bin/env bash
# Everything that needs a GPU, the most telling first; each part goes on where it was if it is started again.
#   PYTHON   the interpreter (python)
#   DATA_DIR folder that holds the data; empty: download
#   N        panels of the published grid to measure (3)
#   MINUTES  after which a panel begins no further run (0: no end)
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python} DATA_DIR=${DATA_DIR:-} N=${N:-3} MINUTES=${MINUTES:-0}
DATA=() # as flags
if [ -n "$DATA_DIR" ]; then DATA=(--data-dir "$DATA_DIR"); fi

"$PYTHON" -m pytest -m gpu -ra
"$PYTHON" -m bench.training --out records/bench

# the panels that records/README.md names next
"$PYTHON" -m analysis.records_index --n-commands "$N" --commands | while read -r _ words; do
    # shellcheck disable=SC2086
    "$PYTHON" $words "${DATA[@]}" --max-minutes "$MINUTES" --checkpoint-seconds 120 < /dev/null
done

# bfloat16 against float32: one full run of each
MODEL=(--corpus wikitext-2 --n-layer 6 --n-head 8 --d-model 512 --d-head 64 --d-inner 2048 --tgt-len 128 --dropout 0.1 --eps 1e-6
    --n-epochs 1000 --patience 10 --micro-batch-size 128 --device cuda "${DATA[@]}")
for dtype in float32 bfloat16; do
    out=records/bench/precision_$dtype.csv
    [ -e "$out" ] || "$PYTHON" -m train.run "${MODEL[@]}" --batch-size 128 --lr 1e-3 --beta2 0.972 --dtype $dtype --out "$out"
done

# the noise scale along three runs (Figure 4): the estimator at every epoch, every window by itself at some
for cell in "128 0.0001" "512 0.00031622776601683794" "4096 0.001"; do
    read -r batch_size lr <<< "$cell"
    name=b${batch_size}_lr${lr} out=records/train/noise_scale
    [ -e "$out/${name}_exact.csv" ] && continue
    "$PYTHON" -m train.run "${MODEL[@]}" --batch-size "$batch_size" --lr "$lr" --beta2 0.999 --dtype bfloat16 --noise-interval 10 \
        --snapshots "results-full/snapshots/$name" --out "$out/runs/$name.csv"
    mapfile -t snapshots < <(ls -v results-full/snapshots/"$name"/step-*.pt)
    some=()
    for ((i = 0; i < ${#snapshots[@]}; i += (${#snapshots[@]} + 5) / 6)); do some+=("${snapshots[i]}"); done
    "$PYTHON" -m train.noise_scale --snapshots "${snapshots[@]}" --method two-batch --device cuda "${DATA[@]}" --format csv --out "$out/${name}_two_batch.csv"
    "$PYTHON" -m train.noise_scale --snapshots "${some[@]}" --method exact --device cuda "${DATA[@]}" --format csv --out "$out/${name}_exact.csv"
done
"$PYTHON" -m analysis.records_index --write
