#!/usr/bin/env bash
# Shows the state, step, loss and time left of a training, and the last lines of its log.
#
#   scripts/check_training_status.sh [--project DIR]        DIR: [training/ of this checkout]
#
# Exit codes: 0 running or finished; 1 failed or interrupted; 2 ended in a crash loop; 3 stopped on request,
# or there is no run.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

tag=STATUS
machine=none
config=
parse_options "$@"
require_binary
read_status
last_lines() { "$binary" logs -n 10 --project "$project" 2>/dev/null || true; }

if [ -z "$run_id" ]; then
  "$binary" logs --console -n 10 --project "$project" 2>/dev/null || true
  fail 3 "there is no run in $project: start one with scripts/train_h100_runpod.sh or scripts/train_m4_local.sh"
fi
say "run $run_id: $(progress)"
if is_active; then
  say "running on the $(json_value "$status" device), resumed $(json_value "$status" resume_count) times"
  eta "about $(time_left) left"
  last_lines
elif is_finished; then
  passed "finished; the result is in $project/model"
  last_lines
else
  last_lines
  case $run_status in
    stopped) warn "stopped on request; start it again to continue" && exit 3 ;;
    completed) fail 1 "trained, but not validated and exported; start it again to continue" ;;
    failed)
      code=1
      [ "$(json_value "$status" failure)" != crash_loop ] || code=2
      fail "$code" "failed: $(json_value "$status" message)" ;;
    *) fail 1 "$run_status; start it again to continue" ;;
  esac
fi
