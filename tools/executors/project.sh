# Sourced by slurm.sh, ray.sh and objects.sh: a project of some MB, the plain run of it, and what compares
# with it.

# Ends the script: what it needs cannot be had here. A failure under TEXT2LLM_REQUIRE_ALL=1.
skip() {
  if [ "${TEXT2LLM_REQUIRE_ALL:-}" = 1 ]; then
    echo "TEXT2LLM_REQUIRE_ALL=1 forbids skipping this: $*" >&2
    exit 1
  fi
  echo "skipped: $*"
  exit 0
}

need_programs() {
  local name
  for name in zstd flock pgrep ps python3; do
    command -v "$name" >/dev/null || skip "there is no $name"
  done
}

# A recipe with everything that depends on the order of documents, and text from this repository: duplicates,
# near-duplicates, repeated spans and lines, a broken file.
make_project() {
  local folder=$1 root
  root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
  mkdir -p "$folder/texts" "$folder/code"
  zstd -qdc "$root"/assets/sample-corpus/sample.jsonl.zst | split -l 60 --additional-suffix=.jsonl - "$folder/texts/sample-"
  cp "$root"/*.md "$root"/docs/*.md "$folder/texts/"
  cp "$root/LOG.md" "$folder/texts/twice.md"
  sed 's/the/The/3' "$root/LOG.md" >"$folder/texts/nearly.md"
  local file
  for file in "$root"/crates/*/src/*.rs "$root"/crates/*/src/*/*.rs; do
    cp "$file" "$folder/code/$(tr / - <<<"${file#"$root"/crates/}").txt"
  done
  head -c 200000 "$root/assets/sample-corpus/sample.jsonl.zst" >"$folder/texts/cut.jsonl.zst"
  printf '\0\1\2\0\0' >"$folder/texts/binary.txt"
  cat >"$folder/text2llm.toml" <<'TOML'
[data]
paths = ["texts", "code"]
keep_dropped = true
validation_fraction = 0.1
[data.near_duplicates]
[data.duplicate_spans]
[data.duplicate_lines]
[data.redact]
[data.mix]
temperature = 1.5
[tokenizer]
vocab_size = 2048
TOML
}

# What must not differ by a byte.
compare() {
  local name
  for name in data/documents tokenizer data/tokens; do
    diff -r "$1/$name" "$2/$name" || { echo "$2 differs from the plain run" >&2; exit 1; }
  done
  echo "    same bytes as the plain run: documents, tokenizer, tokens"
}

# Waits until a file contains a word, or a command prints something.
until_says() {
  local tries=0
  until "$@" | grep -q .; do
    tries=$((tries + 1))
    [ "$tries" -lt 900 ] || { echo "waited in vain for: $*" >&2; return 1; }
    sleep 0.1
  done
}

# Locks a share of `filter`, so that its rank waits until the lock is released: `hold FOLDER RANK OF`, then
# `release`.
hold() {
  local lock
  lock="$1/data/ranks/locks/$(printf 'filter-%05d-of-%05d' "$2" "$3")"
  mkdir -p "$lock"
  exec 9>>"$lock/run.lock"
  flock 9
}
release() { exec 9>&-; }

# The processes of a rank, by its command line; launchers and wrappers are not among them.
rank_processes() { pgrep -f -- "data stage filter .*--project $1 --rank $2 --of $3\$" || true; }
