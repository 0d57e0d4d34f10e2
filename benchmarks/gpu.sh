#!/usr/bin/env bash
# Tests and measures this project on one GPU with 16 cores, in at most eight minutes.
#
#     benchmarks/gpu.sh                  # PYTHON=... selects the interpreter, OUT=... the folder of the figures
#     SMOKE=1 benchmarks/gpu.sh          # tiny sizes on any machine, to try the script itself
#
# It prints: the tests that need a GPU, among them the bit-equal resume of a run with trainer.deterministic=true; the
# speed of the network in training and evaluation next to timm's; and the speed of train.py on generated JPEG files,
# without a cache and with one, with the share of time spent waiting for data. While the tests run, the compiled forms
# are compiled side by side into the compiler's cache. The figures are also written to OUT as JSON.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
PYTHON=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python)}
OUT=${OUT:-$(mktemp -d)}
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
mkdir -p "$OUT"
export PYTHONPATH=$PWD/src TORCHINDUCTOR_CACHE_DIR=$WORK/compiled PYTHONWARNINGS=ignore
LARGE=256 SMALL=32 SECONDS_EACH=1 IMAGES=8000 PATIENCE=1
NETWORK=() RUN=()
if [ "${SMOKE:-}" ]; then
    LARGE=4 SMALL=2 SECONDS_EACH=0 IMAGES=80 PATIENCE=10
    NETWORK=(--image-size 32)
    RUN=(data.batch_size=8 data.image_size=32 model.width_mult=0.2 model.depth_mult=0.1 data.num_workers=1)
fi
FAILED=0

section() { # seconds, title, command...: runs a command for so long at most; a failure does not stop the others
    local limit=$1 title=$2
    shift 2
    printf '\n== %s (after %s s)\n' "$title" "$SECONDS"
    timeout $((limit * PATIENCE)) "$@" || { echo "== FAILED with code $?: $title" && FAILED=1; }
}

TABLE=("$PYTHON" benchmarks/network.py "${NETWORK[@]}" --seconds "$SECONDS_EACH")
LARGE_TRAINING=("${TABLE[@]}" --only training --batch "$LARGE")
SMALL_TRAINING=("${TABLE[@]}" --only training --batch "$SMALL")
EVALUATION=("${TABLE[@]}" --only evaluation --batch "$LARGE")
TRAIN=("$PYTHON" train.py --config finetune/folder.yaml "data.root=$WORK/images" "trainer.runs_dir=$OUT/runs"
    "data.batch_size=$LARGE" schedule.epochs=3 schedule.warmup_epochs=1 trainer.log_every_steps=10 trainer.report=false
    trainer.pictures_every_epochs=null "${RUN[@]}")

for table in LARGE_TRAINING SMALL_TRAINING EVALUATION; do
    declare -n command=$table
    timeout $((170 * PATIENCE)) "${command[@]}" --forms compiled --json "$OUT/compiling-$table.json" >"$OUT/compiling-$table.log" 2>&1 &
done
section 170 "tests on the GPU, while forms are compiled" "$PYTHON" -m pytest -m gpu -vv -rs -p no:cacheprovider \
    tests/models tests/training tests/evaluation
wait
cat "$OUT"/compiling-*.log
section 110 "training step, batch $LARGE, compiled before" "${LARGE_TRAINING[@]}" --forms '^timm|^ours$|compiled' \
    --json "$OUT/training-$LARGE.json"
section 80 "training step, batch $SMALL, compiled before" "${SMALL_TRAINING[@]}" --forms '^timm|^ours$|compiled' \
    --json "$OUT/training-$SMALL.json"
section 80 "evaluation, batch $LARGE, compiled before" "${EVALUATION[@]}" --forms '^timm|^ours$|folded' \
    --json "$OUT/evaluation-$LARGE.json"
"$PYTHON" benchmarks/jpeg_folder.py "$WORK/images" --images $IMAGES
section 60 "train.py, $IMAGES JPEG files, three epochs, without a cache" "${TRAIN[@]}" name=plain
section 60 "the same with data.cache=disk" "${TRAIN[@]}" name=cached data.cache=disk "data.cache_folder=$WORK/cache"
printf '\nfinished after %s s; figures in %s\n' "$SECONDS" "$OUT"
exit $FAILED
