#!/bin/sh
# Rebuilds ../model and ../prompts from Debian packages: corpus, tokenizer, training, checks.
# Usage: rebuild.sh [BUILD_DIR]   (keeps the corpus, the checkpoint and the candidate there)
set -eu
here=$(cd "$(dirname "$0")" && pwd)
build=${1:-${TMPDIR:-/tmp}/sluice-demo-model}
python=${PYTHON:-/usr/bin/python3}
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" PYTHONDONTWRITEBYTECODE=1

"$python" "$here/corpus.py" "$build/corpus.jsonl" --work "$build/packages"
"$python" "$here/train.py" "$build/corpus.jsonl" "$build/model" --checkpoint "$build/state.ckpt"
"$python" "$here/verify.py" "$build/model" --corpus "$build/corpus.jsonl"
"$python" "$here/prompts.py" "$build/corpus.jsonl" "$build/model" "$here/../prompts"
cp "$build/model/"* "$here/../model/"
