"""Runs ranks of text2llm as tasks of Ray. One JSON line on standard input asks for ranks, one on standard output answers for each.

A request is {"command": [...], "ranks": [...], "logs": [...], "cpus": n, "retries": n, "environment": {...}, "folder": "..."}, where
"@RANK@" in the command is the rank's number; an answer is {"rank": n, "failed": null or why}, and {} once all are through.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys

# Ray prints to standard output as it likes; the answers go where it was.
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)


def answer(value):
    print(json.dumps(value), file=answers, flush=True)


try:
    import ray
except ImportError as error:
    answer({"fatal": f"Python has no Ray ({error}): `pip install ray`, or name another Python with --python"})
    sys.exit(1)


def die_with_worker():
    # PR_SET_PDEATHSIG: a worker that is killed takes its rank along, so that the next try finds nobody at
    # work.
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def run(request, rank, log):
    command = [word.replace("@RANK@", str(rank)) for word in request["command"]]
    environment = {**os.environ, **request["environment"]}
    # With a share, the project folder is each machine's own.
    os.makedirs(os.path.dirname(log), exist_ok=True)
    with open(log, "ab") as words:
        ended = subprocess.run(
            command,
            cwd=request["folder"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=words,
            stderr=subprocess.STDOUT,
            preexec_fn=die_with_worker,
        )
    return ended.returncode


def main():
    try:
        # RAY_ADDRESS names a cluster; without it, one of this machine begins.
        ray.init(log_to_driver=False, include_dashboard=False) if "RAY_ADDRESS" not in os.environ else ray.init(log_to_driver=False)
    except Exception as error:
        answer({"fatal": f"Ray does not start: {error}"})
        sys.exit(1)
    for line in sys.stdin:
        request = json.loads(line)
        largest = max((node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]), default=0)
        if request["cpus"] > largest:
            answer({"fatal": f"no node has {request['cpus']} processors for a rank: the largest has {largest:g}; give fewer with --cpus"})
            sys.exit(1)
        task = ray.remote(run).options(num_cpus=request["cpus"], max_retries=request["retries"])
        waiting = {
            task.remote(request, rank, log): rank for rank, log in zip(request["ranks"], request["logs"])
        }
        while waiting:
            done, _ = ray.wait(list(waiting), num_returns=1)
            rank = waiting.pop(done[0])
            try:
                code = ray.get(done[0])
                failed = None if code == 0 else f"failed (exit status {code})"
            except Exception as error:
                failed = f"was lost: {error}"
            answer({"rank": rank, "failed": failed})
        answer({})
    ray.shutdown()


main()
