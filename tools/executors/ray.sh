#!/usr/bin/env bash
# `data prepare --executor ray` on a real Ray from PyPI: 1, 2 and 8 ranks, a worker killed in the middle (kill
# -9), and all bytes compared with the plain run.
#
#   tools/executors/ray.sh PROGRAM        TEXT2LLM_RAY_VENV: where Ray is, or will be installed
#   [~/.cache/text2llm-ray]
set -euo pipefail
program=$(realpath "${1:?usage: ray.sh PROGRAM}")
source "$(dirname "$0")/project.sh"
need_programs

venv=${TEXT2LLM_RAY_VENV:-$HOME/.cache/text2llm-ray}
if ! "$venv/bin/python" -c 'import ray' 2>/dev/null; then
  { python3 -m venv "$venv" && "$venv/bin/pip" install --quiet "ray==2.*"; } >/dev/null 2>&1 ||
    skip "pip brought no Ray"
fi
work=$(mktemp -d)
head=
cleanup() {
  release
  # With --block, the head takes its processes down with it.
  [ -z "$head" ] || { kill "$head" && wait "$head"; } 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT

# A cluster of this machine that nobody else can reach; eight processors on paper, so that eight ranks run at
# once.
"$venv/bin/ray" start --head --block --node-ip-address=127.0.0.1 --port=26379 --num-cpus=8 --include-dashboard=false --disable-usage-stats \
  --temp-dir="$work/ray" >"$work/ray.log" 2>&1 &
head=$!
until_says sh -c "grep 'runtime started' '$work/ray.log' || true" ||
  { cat "$work/ray.log"; skip "Ray does not come up on this machine"; }
export RAY_ADDRESS=127.0.0.1:26379
echo "Ray $("$venv/bin/python" -c 'import ray; print(ray.__version__)') (${SECONDS}s)"

folder="$work/a project"
make_project "$folder"
plain=$work/plain
"$program" data prepare "$folder" --output-dir "$plain" >/dev/null 2>&1
echo "plain run done (${SECONDS}s)"

prepare() {
  local out=$1 ranks=$2 log=$1.log
  "$program" data prepare "$folder" --output-dir "$out" --executor ray --ranks "$ranks" --python "$venv/bin/python" >/dev/null 2>"$log" 9>&- ||
    { cat "$log"; exit 1; }
}
for ranks in 1 2 8; do
  prepare "$work/by $ranks" "$ranks"
  echo "$ranks ranks (${SECONDS}s)"
  compare "$plain" "$work/by $ranks"
done

echo "a worker is killed while its rank works"
out=$work/killed
mkdir -p "$out"
hold "$out" 1 4
prepare "$out" 4 9>&- &
launcher=$!
until_says rank_processes "$out" 1 4
rank=$(rank_processes "$out" 1 4)
worker=$(ps -o ppid= -p "$rank" | tr -d ' ')
ps -o args= -p "$worker" | grep -q ray:: || { echo "process $worker is no worker of Ray" >&2; exit 1; }
kill -9 "$worker"
until_says bash -c "$(declare -f rank_processes); rank_processes '$out' 1 4 | grep -vx '$rank'"
# What nobody waits for stays in the table of processes, as a zombie.
ps -o stat= -p "$rank" | grep -vq '^Z' && { echo "the rank has outlived its worker" >&2; exit 1; }
release
wait "$launcher"
compare "$plain" "$out"
echo "done (${SECONDS}s)"
