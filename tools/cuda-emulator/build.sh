#!/usr/bin/env bash
# Builds the emulated libraries into a folder: build.sh [--test] OUT_DIR. With --test also builds and runs the
# tests.
set -euo pipefail
test=false
if [ "${1-}" = --test ]; then test=true; shift; fi
out=${1:?usage: build.sh [--test] OUT_DIR}
mkdir -p "$out"
out=$(cd "$out" && pwd)
cd "$(dirname "$0")"

flags="-std=c++17 -O2 -march=native -Wall -Wextra -Werror -fPIC -fvisibility=hidden"
library() { # name, version, sources and flags
    local name=$1 file=$1.so.$2
    shift 2
    g++ $flags -shared -Wl,-soname,"$file" -Wl,-z,defs "$@" -o "$out/$file.new"
    mv "$out/$file.new" "$out/$file" # never under a running program
    ln -sf "$file" "$out/$name.so"
}
objects=()
for part in driver memory streams graphs modules fibers; do
    g++ $flags -c $part.cpp -o "$out/$part.o" &
    objects+=("$out/$part.o")
done
library libnvrtc 13 nvrtc.cpp &
for job in $(jobs -p); do wait "$job"; done
library libcuda 1 "${objects[@]}" -ldl -lpthread
library libcublasLt 13 -O3 -ffp-contract=fast cublaslt.cpp -L"$out" -l:libcuda.so.1 -Wl,-rpath,'$ORIGIN'
rm "${objects[@]}"

if $test; then
    g++ -std=c++17 -O1 -Wall -Wextra -Werror test/main.cpp -o "$out/emulator-test" -L"$out" -l:libcuda.so.1 -l:libnvrtc.so.13 -l:libcublasLt.so.13 -Wl,-rpath,"$out"
    "$out/emulator-test" test
    for seed in 1 2 3; do EMULATED_ORDER=$seed "$out/emulator-test" test; done
fi
