#!/usr/bin/env bash
# Builds all that tools/gpu/measure.py runs into one folder, for a machine with a GPU and without Rust:
#
#     tools/gpu/bundle.sh target/gpu-bundle
set -euo pipefail
cd "$(dirname "$0")/../.."
out=${1:?"usage: tools/gpu/bundle.sh OUT_DIR"}
mkdir -p "$out/model/tests"

# The path of a crate's integration tests, as cargo tells it.
tests_of() {
  cargo test --release -p "$1" --features cuda --test it --no-run --message-format=json |
    python3 -c 'import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if message.get("executable") and message["target"]["name"] == "it":
        print(message["executable"])'
}

cargo build --release --features cuda
target=$(cargo metadata --format-version 1 --no-deps | python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')
cp "$target/release/text2llm" "$out/text2llm"
cp "$(tests_of compute)" "$out/compute-tests"
cp "$(tests_of model)" "$out/model/model-tests"
cp -r crates/model/tests/golden "$out/model/tests/"
cp examples/quick-test.toml tools/gpu/measure.py "$out/"
# PyTorch's side, where it is at hand.
for peer in ../shared/peers/pytorch_train_bench.py; do
  if [ -e "$peer" ]; then cp "$peer" "$out/"; fi
done
# Symbols of a test's functions are not worth carrying.
strip "$out/text2llm" "$out/compute-tests" "$out/model/model-tests"
du -sh "$out"
