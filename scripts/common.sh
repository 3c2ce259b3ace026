# Sourced by the other scripts of this folder: options, messages, the binary, the checks before training, and
# the record of starts. For bash 3.2, which macOS has, without jq. `text2llm doctor --for` does the checks.
#
# A script sets `tag`, `machine` and `config`, and where it needs them `session`, `next_script` and
# `minimum_disk_gb`, then calls `setup` or `train`.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# With a decimal point in any language.
awk() { LC_ALL=C command awk "$@"; }
# They would change what the program prints, or where.
unset TEXT2LLM_JSON TEXT2LLM_OUTPUT TEXT2LLM_PROJECT

project=$root/training
init=
data=()
minimum_disk_gb=5
price=${TRAINING_USD_PER_HOUR:-}
wandb=
foreground=

say() { printf '[%s] %s\n' "$tag" "$*"; }
eta() { printf '[ETA] %s\n' "$*"; }
passed() { printf '✅ %s\n' "$*"; }
warn() { printf '⚠️ WARNING: %s\n' "$*"; }
error() { printf '❌ ERROR: %s\n' "$*" >&2; }
# fail CODE MESSAGE
fail() {
  local code=$1
  shift
  error "$*"
  exit "$code"
}

# The comment at the head of the script is its help.
usage() { awk 'NR > 1 { if (!/^#/) exit; sub(/^# ?/, ""); print }' "$0"; }

absolute() { case $1 in /* | hf://*) printf '%s' "$1" ;; *) printf '%s' "$PWD/$1" ;; esac }

parse_options() {
  while [ $# -gt 0 ]; do
    case $1 in
      --help | -h) usage && exit 0 ;;
      --wandb) wandb=1 && shift && continue ;;
      --foreground) foreground=1 && shift && continue ;;
      --config | --init | --data | --project | --machine | --minimum-disk-gb | --usd-per-hour)
        [ $# -ge 2 ] || fail 1 "$1 needs a value" ;;
      *) fail 1 "unknown option $1; --help lists the options" ;;
    esac
    case $1 in
      --config) config=$2 ;;
      --init) init=$(absolute "$2") ;;
      --data) data+=("$(absolute "$2")") ;;
      --project) project=$(absolute "$2") ;;
      --machine) machine=$2 ;;
      --minimum-disk-gb) minimum_disk_gb=$2 ;;
      --usd-per-hour) price=$2 ;;
    esac
    shift 2
  done
  case $machine in h100 | mac | none) ;; *) fail 1 "--machine is h100, mac or none, not $machine" ;; esac
  case $price in *[!0-9.]*) fail 1 "the price per hour must be a number, not $price" ;; esac
  # Flags of both `finetune` and `doctor --for`, and the same for `plan`.
  recipe_flags=()
  plan_flags=()
  if [ -n "$init" ]; then
    recipe_flags+=(--init "$init")
    plan_flags+=(--set "train.init=$init")
  fi
  local file list=
  for file in ${data[@]+"${data[@]}"}; do
    recipe_flags+=(--data "$file")
    list="$list${list:+, }\"$file\""
  done
  if [ -n "$list" ]; then
    plan_flags+=(--set "finetune.data=[$list]")
  fi
  logs=$project/logs
  attempts=$logs/resume_metadata.json
}

# json_value JSON KEY: the first value of that key; empty for null or a key that is not there. Objects and
# lists are cut off at their first comma.
json_value() {
  local rest=${1#*\""$2"\":}
  [ "$rest" != "$1" ] || return 0
  rest=${rest# }
  case $rest in
    null*) ;;
    \"*) rest=${rest#\"} && printf '%s' "${rest%%\"*}" ;;
    *) printf '%s' "${rest%%[,\}]*}" ;;
  esac
}

# --- the binary ---

wanted_version() {
  sed -n '/^\[workspace.package\]/,/^$/s/^version = "\(.*\)"$/\1/p' "$root/Cargo.toml"
}

# Whether a binary has this checkout's version, and CUDA if the machine needs it.
is_current() {
  [ "$("$1" --version 2>/dev/null || true)" = "text2llm $(wanted_version)" ] || return 1
  [ "$machine" != h100 ] || ! "$1" doctor --json 2>/dev/null | grep -q '"cuda":null'
}

wanted() {
  local cuda=
  [ "$machine" != h100 ] || cuda=" with CUDA"
  printf 'text2llm %s%s' "$(wanted_version)" "$cuda"
}

# Finds the binary: $TEXT2LLM_BINARY, else the release build of this checkout, else that on PATH.
find_binary() {
  local candidate
  if [ -n "${TEXT2LLM_BINARY:-}" ]; then
    is_current "$TEXT2LLM_BINARY" ||
      fail 1 "TEXT2LLM_BINARY=$TEXT2LLM_BINARY is not $(wanted): unset it, or build that version"
    binary=$TEXT2LLM_BINARY
    return 0
  fi
  for candidate in "${CARGO_TARGET_DIR:-$root/target}/release/text2llm" "$(command -v text2llm || true)"; do
    if [ -n "$candidate" ] && [ -x "$candidate" ] && is_current "$candidate"; then
      binary=$candidate
      return 0
    fi
  done
  return 1
}

require_binary() {
  find_binary || fail 1 "there is no $(wanted): run scripts/setup_*.sh first"
}

setup() {
  parse_options "$@"
  say "looking for $(wanted)"
  if ! find_binary; then
    command -v cargo >/dev/null ||
      fail 1 "there is no $(wanted), and no cargo to build it: install Rust from https://rustup.rs"
    say "building it, which takes several minutes"
    local features=()
    [ "$machine" != h100 ] || features=(--features cuda)
    (cd "$root" && cargo build --release ${features[@]+"${features[@]}"}) || fail 1 "the build failed"
    find_binary || fail 1 "the build is not $(wanted): check CARGO_TARGET_DIR"
  fi
  passed "$(wanted): $binary"
  preflight
  say "ready: continue with scripts/$next_script"
}

# --- before training ---

preflight() {
  local flags=(--machine "$machine" --minimum-disk-gb "$minimum_disk_gb" --project "$project")
  local output line word subject message code=0
  [ -z "$wandb" ] || flags+=(--wandb)
  say "checking $config"
  flags+=(${recipe_flags[@]+"${recipe_flags[@]}"})
  output=$("$binary" doctor --for "$config" "${flags[@]}" 2>&1) || code=$?
  while IFS= read -r line; do
    # Status, name and message, in columns; a last line of another form.
    read -r word subject message <<<"$line" || true
    case $word in
      ok) passed "$subject: $message" ;;
      warning) warn "$subject: $message" ;;
      error) error "$subject: $message" ;;
      *) say "$line" ;;
    esac
  done <<<"$output"
  [ "$code" = 0 ] || exit 1
}

# hours_in_words HOURS
hours_in_words() {
  awk -v hours="$1" \
    'BEGIN { if (hours >= 1) printf "%.1f hours", hours; else printf "%.0f minutes", 60 * hours }'
}

# Expected time and cost by `text2llm plan`: on an H100 from its rated peak, elsewhere from measured steps.
print_estimate() {
  local plan hours flags=(--project "$project" --json) basis="from a few measured steps"
  if [ "$machine" = h100 ]; then
    flags+=(--gpu h100)
    basis="at 40 % of the GPU's rated peak"
  fi
  flags+=(${plan_flags[@]+"${plan_flags[@]}"})
  plan=$("$binary" plan "$config" "${flags[@]}" 2>/dev/null | tail -n 1) || plan=
  hours=$(json_value "$plan" hours)
  [ -n "$price" ] || price=$(json_value "$plan" usd_per_hour)
  if [ -z "$hours" ]; then
    local seconds
    seconds=$(json_value "$plan" training_s)
    if [ -z "$seconds" ]; then
      eta "not known before training starts"
      return 0
    fi
    hours=$(awk -v seconds="$seconds" 'BEGIN { print seconds / 3600 }')
  fi
  local cost=
  if [ -n "$price" ]; then
    cost=$(awk -v hours="$hours" -v price="$price" \
      'BEGIN { printf " and %.2f USD (at %.2f USD per hour)", hours * price, price }')
  fi
  eta "about $(hours_in_words "$hours")$cost by text2llm plan, $basis; training steps only"
}

# --- the run ---

# Reads the state of the latest run.
read_status() {
  status=$("$binary" status --project "$project" --json 2>/dev/null | tail -n 1) || status=
  run_id=$(json_value "$status" run_id)
  run_status=$(json_value "$status" status)
  step=$(json_value "$status" step)
  total_steps=$(json_value "$status" total_steps)
  checkpoint_step=$(json_value "$status" checkpoint_step)
  # `status` is also the kind of the event and a field of the job; of no run there is neither.
  [ -n "$run_id" ] || run_status=
}

is_active() { [ "$(json_value "$status" alive)" = true ] || [ -n "$(json_value "$status" supervisor_pid)" ]; }

# All stages are done: training, validation and export.
is_finished() { [ "$run_status" = completed ] && [ "$(json_value "$status" missing)" = "[]" ]; }

# Exit code of the background job, if it failed.
job_exit_code() {
  local code
  code=$(json_value "$status" exit_code)
  case $code in "" | 0) printf 1 ;; *) printf '%s' "$code" ;; esac
}

# In words: "step 20 of 400, loss 2.345".
progress() {
  local loss
  loss=$(json_value "$status" train_loss)
  printf 'step %s of %s%s' "${step:-0}" "${total_steps:-0}" \
    "$([ -z "$loss" ] || awk -v loss="$loss" 'BEGIN { printf ", loss %.4f", loss }')"
}

time_left() {
  local seconds
  seconds=$(json_value "$status" eta_s)
  hours_in_words "$(awk -v seconds="${seconds:-0}" 'BEGIN { print seconds / 3600 }')"
}

# --- the record of starts ---
#
# One line per start: its time, the run, the newest checkpoint when it began, and the newest one seen since.
# Crashes within a background job are counted by its supervisor, in the resume_metadata.json of the run.

# Writes the lines of attempts, one argument each.
write_attempts() {
  local line separator=
  {
    printf '{\n  "recipe": "%s",\n  "attempts": [' "$(printf '%s' "$config" | tr -d '"\\')"
    for line in "$@"; do
      printf '%s\n    %s' "$separator" "$line"
      separator=,
    done
    printf '\n  ]\n}\n'
  } >"$attempts.new"
  mv "$attempts.new" "$attempts"
}

# Sets `lines` to the recorded starts, the last one with the step that the run has reached.
read_attempts() {
  local line
  lines=()
  [ -f "$attempts" ] || return 0
  while IFS= read -r line; do
    case $line in *'"time"'*) ;; *) continue ;; esac
    line=${line#"${line%%[! ]*}"}
    lines+=("${line%,}")
  done <"$attempts"
  local last=$((${#lines[@]} - 1))
  if [ "$last" -ge 0 ] && [ "${checkpoint_step:-0}" -gt "$(json_value "${lines[$last]}" reached_step)" ]; then
    lines[last]="${lines[$last]%\"reached_step\"*}\"reached_step\": $checkpoint_step}"
  fi
}

# Ends with exit code 2 if the last three starts brought no newer checkpoint; otherwise records this one.
record_start() {
  local line in_vain=0
  mkdir -p "$logs"
  if is_finished; then
    rm -f "$attempts"
  fi
  read_attempts
  for line in ${lines[@]+"${lines[@]}"}; do
    if [ "$(json_value "$line" reached_step)" -gt "$(json_value "$line" from_step)" ]; then
      in_vain=0
    else
      in_vain=$((in_vain + 1))
    fi
  done
  if [ "$in_vain" -ge 3 ]; then
    write_attempts "${lines[@]}"
    fail 2 "crash loop: the last $in_vain starts got no further than step ${checkpoint_step:-0}. See the" \
      "logs in $logs, correct the cause, delete $attempts and start again"
  fi
  local from=${checkpoint_step:-0}
  # A finished run is not continued.
  ! is_finished || from=0
  line="{\"time\": \"$(date -u +%Y-%m-%dT%H:%M:%SZ)\", \"run_id\": \"$run_id\", \"from_step\": $from,"
  write_attempts ${lines[@]+"${lines[@]}"} "$line \"reached_step\": $from}"
}

# Updates the record after training has started or ended.
record_progress() {
  read_attempts
  [ ${#lines[@]} = 0 ] || write_attempts "${lines[@]}"
}

# --- training ---

train() {
  parse_options "$@"
  require_binary
  read_status
  if [ -n "$run_id" ] && is_active; then
    say "already running: run $run_id, $(progress)"
    print_reconnect
    return 0
  fi
  preflight
  print_estimate
  # `finetune` reuses a finished run and continues an unfinished one only if it is told to.
  arguments=(finetune "$config" ${recipe_flags[@]+"${recipe_flags[@]}"} --project "$project")
  case $machine in h100) arguments+=(--device cuda) ;; mac) arguments+=(--device cpu) ;; esac
  if [ -n "$run_id" ] && ! is_finished; then
    say "continuing run $run_id from the checkpoint of step ${checkpoint_step:-0}"
    arguments+=(--resume)
  fi
  record_start
  log=$logs/training_$(date +%Y%m%d_%H%M%S).log
  say "log: $log"
  if [ -n "$foreground" ]; then train_in_foreground; else train_in_background; fi
}

train_in_foreground() {
  local pipe code=0 writer
  pipe=$(mktemp -d)
  mkfifo "$pipe/output"
  tee -i -a "$log" <"$pipe/output" &
  writer=$!
  "$binary" "${arguments[@]}" >"$pipe/output" 2>&1 &
  child=$!
  # A stop of this script stops the training, which saves a checkpoint. Ctrl-C reaches it by itself.
  trap 'kill -TERM "$child" 2>/dev/null || true' TERM
  trap : INT
  while :; do
    code=0
    wait "$child" || code=$?
    kill -0 "$child" 2>/dev/null || break
  done
  wait "$writer" || true
  rm -r "$pipe"
  trap - TERM INT
  read_status
  record_progress
  case $code in
    0) print_complete ;;
    130 | 143) warn "stopped on request at step ${step:-0}; start it again to continue" && exit "$code" ;;
    *) fail "$code" "training ended with exit code $code at step ${step:-0}; log: $log" ;;
  esac
}

# The supervisor of `--detach` resumes after crashes and ends crash loops with exit code 2. It survives this
# terminal with or without tmux, so the tmux session only shows its output and writes the log.
train_in_background() {
  local before code=0
  before=$("$binary" logs --console -n 0 --project "$project" 2>/dev/null | wc -l) || before=0
  "$binary" "${arguments[@]}" --detach 2>&1 | tee "$log" || code=${PIPESTATUS[0]}
  read_status
  record_progress
  if [ "$code" != 0 ]; then
    error "training did not start (exit code $code); log: $log"
    exit "$code"
  fi
  if is_finished && ! is_active; then
    print_complete
    return 0
  fi
  follow "$before"
  watch_start
}

# Copies the job's output to the log until the job ends. `$1`: lines of earlier jobs in its console.
follow() {
  local now skip=$1 copy
  now=$("$binary" logs --console -n 0 --project "$project" | wc -l)
  [ "$now" -ge "$skip" ] || skip=0
  # `read` takes no more than its line, and `cat` passes on at once what is left.
  copy="$(printf '%q ' "$binary" logs --console -f -n 0 --project "$project")"
  copy="$copy | { for ((i = 0; i < $((skip)); i++)); do read -r _; done; exec cat; }"
  # It begins with what was printed so far.
  : >"$log"
  if command -v tmux >/dev/null; then
    # The session of an earlier job, which only waits to be closed.
    tmux kill-session -t "=$session" 2>/dev/null || true
    local shown
    shown="$copy | tee -a $(printf '%q' "$log"); echo 'The job has ended. Press Enter to close.'; read -r _"
    if tmux new-session -d -s "$session" bash -c "$shown"; then
      return 0
    fi
    warn "tmux cannot start the session $session: the log is written by a background process"
  else
    warn "there is no tmux: the log is written by a background process"
  fi
  local detach=(nohup)
  ! command -v setsid >/dev/null || detach=(setsid nohup)
  "${detach[@]}" bash -c "$copy" >>"$log" 2>/dev/null </dev/null &
}

# Watches the first steps for errors.
watch_start() {
  local steps=${TRAINING_WATCH_STEPS:-100} seconds=${TRAINING_WATCH_S:-300} every=${TRAINING_WATCH_EVERY_S:-5}
  local end=$((SECONDS + seconds)) first=${step:-0} resumes now
  resumes=$(json_value "$status" resume_count)
  say "watching the first $steps steps, for at most $seconds s"
  while :; do
    read_status
    record_progress
    if ! is_active; then
      if is_finished; then
        print_complete
        return 0
      fi
      "$binary" logs --console -n 20 --project "$project" >&2 || true
      fail "$(job_exit_code)" "training is $run_status at step ${step:-0}: $(json_value "$status" message)"
    fi
    now=$(json_value "$status" resume_count)
    if [ "${now:-0}" -gt "${resumes:-0}" ]; then
      warn "training crashed and was resumed; see $log"
      resumes=$now
    fi
    if [ $((${step:-0} - first)) -ge "$steps" ] || [ "$SECONDS" -ge "$end" ]; then
      break
    fi
    sleep "$every"
  done
  printf '[%s-STARTED] run %s, %s\n' "$tag" "$run_id" "$(progress)"
  eta "about $(time_left) left"
  print_reconnect
}

print_reconnect() {
  if tmux has-session -t "=$session" 2>/dev/null; then
    say "attach to the output: tmux attach -t $session (detach with Ctrl-B D)"
  fi
  say "show the state: scripts/check_training_status.sh --project $project"
  say "save a checkpoint and stop: $binary stop --project $project"
}

print_complete() {
  rm -f "$attempts"
  passed "run $run_id is finished: $(progress)"
  printf '[%s-COMPLETE] the result is in %s\n' "$tag" "$project/model"
  say "merge, convert and use it: docs/DEPLOYMENT.md"
}
