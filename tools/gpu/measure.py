#!/usr/bin/env python3
"""All that is to be shown on a GPU in one go, within ten minutes: the kernel suite, the model's tests, a run that is killed and resumed,
and training steps beside PyTorch's. Writes one JSON after every part, so that a cut leaves what was done, and a table.

    tools/gpu/bundle.sh target/gpu-bundle                         # where Rust is
    python3 target/gpu-bundle/measure.py --out gpu.json           # where the GPU is
        [--peer .../pytorch_train_bench.py]                       # PyTorch's side; left out where there is no torch
        [--device cpu --presets tiny]                             # a rehearsal without a GPU

Needs nothing but Python's own library. Bounds: MFU >= 45, 50, 55 % at gpu124m, gpu350m, gpu1b5; >= 1.1x PyTorch compiled with its fastest
attention; GPU memory <= 0.8x its; first step within 10 s, from the cache 2 s.
"""
import argparse
import datetime
import json
import os
import pathlib
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
MFU_BOUNDS = {"gpu124m": 0.45, "gpu350m": 0.50, "gpu1b5": 0.55}
# Runs the peer's script, then says how much of the GPU's memory PyTorch had taken at most.
PEER = """
import json, runpy, sys, torch
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
if torch.cuda.is_available():
    print(json.dumps({"gpu_mb": torch.cuda.max_memory_reserved() >> 20, "gpu_allocated_mb": torch.cuda.max_memory_allocated() >> 20}))
"""


class Report:
    """What was found so far, on the disk after each part."""

    def __init__(self, path, arguments):
        self.path = path
        self.began = time.monotonic()
        self.budget_s = arguments.budget_s
        self.data = {
            "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "host": {"machine": platform.machine(), "system": platform.system(), "cpus": os.cpu_count()},
            "device": arguments.device,
            "parts": {},
        }

    def left_s(self):
        return self.budget_s - (time.monotonic() - self.began)

    def part(self, name, work):
        """Runs a part unless time is up; a part that fails is told and does not stop the others."""
        if self.left_s() < 10:
            result = {"skipped": "no time left"}
        else:
            start = time.monotonic()
            try:
                result = work()
            except Exception as error:  # whatever it is belongs into the report
                result = {"error": f"{type(error).__name__}: {error}"}
            result["took_s"] = round(time.monotonic() - start, 1)
        self.data["parts"][name] = result
        self.path.write_text(json.dumps(self.data, indent=1) + "\n")
        shown = {key: value for key, value in result.items() if key not in ("output", "kernels")}
        print(f"{name}: {json.dumps(shown)}", file=sys.stderr, flush=True)
        return result


def run(command, timeout_s, environment=None, folder=None):
    """(exit status, stdout, the end of both outputs); a command that takes too long has None for its status."""
    process = subprocess.Popen(
        [str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace", cwd=folder,
        # A script of the folder one stands in must not pass for one of Python's own modules.
        env={**os.environ, "PYTHONSAFEPATH": "1", **(environment or {})}, stdin=subprocess.DEVNULL, start_new_session=True,
    )
    try:
        stdout, stderr = process.communicate(timeout=max(timeout_s, 1))
    except subprocess.TimeoutExpired:
        # With its children: what a tool runs under itself would go on.
        os.killpg(process.pid, signal.SIGKILL)
        stdout, stderr = process.communicate()
        return None, "", f"no answer within {timeout_s:.0f} s: {(stdout + stderr)[-1000:]}"
    return process.returncode, stdout, (stdout + stderr)[-3000:]


def last_json(text):
    """All JSON objects among the lines of an output, laid over each other."""
    merged = {}
    for line in text.splitlines():
        if line.startswith("{"):
            merged.update(json.loads(line))
    if not merged:
        raise ValueError(f"no figures in: {text[-500:]}")
    return merged


def tests(report, binary, folder, names):
    environment = {"TEXT2LLM_TEST_CUDA": "1"} if report.data["device"] == "cuda" else {}
    status, _, output = run([binary, names, "--test-threads", "1"], min(report.left_s(), 150), environment, folder)
    result = {"passed": status == 0, "summary": next((l for l in output.splitlines()[::-1] if l.startswith("test result")), "")}
    return result if status == 0 else {**result, "output": output}


def sanitized(report, binary, folder, names):
    """The suite under compute-sanitizer, where that is installed."""
    tool = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
    if not pathlib.Path(tool).exists():
        return {"skipped": "compute-sanitizer is not installed"}
    environment = {"TEXT2LLM_TEST_CUDA": "1"}
    command = [tool, "--error-exitcode", "9", binary, names, "--test-threads", "1"]
    status, _, output = run(command, min(report.left_s(), 150), environment, folder)
    return {"passed": status == 0, "output": output[-800:]}


def steps(report, program, preset, dtype, steps_count):
    device = report.data["device"]
    command = [program, "bench", "--device", device, "--preset", preset, "--dtype", dtype, "--steps", steps_count, "--json"]
    status, stdout, output = run(command, min(report.left_s(), 120))
    if status != 0:
        return {"error": output}
    return last_json(stdout)


def peer(report, script, preset, dtype, steps_count, more):
    device = report.data["device"]
    command = [sys.executable, "-c", PEER, script, "--preset", preset, "--dtype", dtype, "--device", device, "--steps", steps_count,
               "--threads", os.cpu_count(), *more]
    status, stdout, output = run(command, min(report.left_s(), 180))
    if status != 0:
        return {"error": output}
    return last_json(stdout)


def killed_and_resumed(report, program):
    """A small run, killed in the middle of training and resumed, against one that was left alone: equal to the bit."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        recipe = HERE / "quick-test.toml"
        more = ["--device", report.data["device"], "--yes", "--set", "train.checkpoint_every=10", "--set", "train.sample_every=0",
                "--set", "train.steps=60"]
        whole = [program, "train", recipe, "--output-dir", folder / "whole", *more]
        status, _, output = run(whole, min(report.left_s(), 240))
        if status != 0:
            return {"error": output}
        cut = [str(part) for part in [program, "train", recipe, "--output-dir", folder / "cut", *more]]
        process = subprocess.Popen(cut, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        # Killed as soon as there is something to resume from, before the end.
        until = time.monotonic() + min(report.left_s(), 240)
        while process.poll() is None and time.monotonic() < until:
            if any((folder / "cut").glob("runs/*/checkpoints/step-*/manifest.json")):
                os.killpg(process.pid, signal.SIGKILL)
                break
            time.sleep(0.005)
        killed = process.wait() == -signal.SIGKILL
        status, _, output = run([program, "resume", "--project", folder / "cut", "--yes", "--device", report.data["device"]],
                                min(report.left_s(), 240))
        if killed and status != 0:
            return {"error": output}
        losses = [tail_of_losses(folder / name) for name in ("whole", "cut")]
        return {"killed": killed, "passed": killed and losses[0] == losses[1], "steps": len(losses[0])}


def tail_of_losses(project):
    """(step, loss) of each step of a project's only run, the last word on each."""
    (metrics,) = project.glob("runs/*/metrics.jsonl")
    found = {}
    for line in metrics.read_text().splitlines():
        record = json.loads(line)
        if "loss" in record and "step" in record and "validation" not in json.dumps(list(record)):
            found[record["step"]] = record["loss"]
    return sorted(found.items())


def table(report):
    """Our steps beside the fastest of PyTorch's, as markdown."""
    rows = ["| preset | ms | tokens/s | MFU | PyTorch compile ms (fastest attention) | speed | GPU memory | of PyTorch's |",
            "|---|---|---|---|---|---|---|---|"]
    parts = report.data["parts"]
    for preset in report.data["presets"]:
        ours = parts.get(f"step {preset}", {})
        if "step_ms" not in ours:
            continue
        peers = [parts[name] for name in parts if name.startswith(f"peer {preset}") and "step_ms" in parts[name]]
        best = min(peers, key=lambda figures: figures["step_ms"], default=None)
        mfu = f"{100 * ours['mfu']:.1f} %" if ours.get("mfu") else "-"
        memory = ours.get("gpu_mb")
        cells = [preset, ours["step_ms"], f"{ours['tokens_per_s']:.0f}", mfu]
        cells += [best["step_ms"], f"{best['step_ms'] / ours['step_ms']:.2f}x"] if best else ["-", "-"]
        cells.append(f"{memory:.0f} MB" if memory else "-")
        cells.append(f"{memory / best['gpu_mb']:.2f}" if memory and best and best.get("gpu_mb") else "-")
        rows.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    return "\n".join(rows)


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--bundle", type=pathlib.Path, default=HERE, help="the folder that bundle.sh made [default: this script's]")
    args.add_argument("--out", type=pathlib.Path, default=pathlib.Path("gpu.json"))
    args.add_argument("--peer", type=pathlib.Path, help="pytorch_train_bench.py [default: that of the bundle, where there is one]")
    args.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    args.add_argument("--presets", nargs="+", default=["gpu124m", "gpu350m", "gpu1b5"])
    args.add_argument("--dtype", default="bf16")
    args.add_argument("--steps", type=int, default=23, help="of each bench; three are warm-up")
    args.add_argument("--budget-s", type=float, default=570)
    a = args.parse_args()
    a.bundle = a.bundle.resolve()
    beside = a.bundle / "pytorch_train_bench.py"
    a.peer = a.peer or (beside if beside.exists() else None)
    if a.peer is None:
        print("without --peer nothing is compared with PyTorch", file=sys.stderr)
    # Libraries from the wheels of the Python that runs this are found without its environment being
    # activated.
    os.environ.setdefault("VIRTUAL_ENV", sys.prefix)
    report = Report(a.out, a)
    report.data["presets"] = a.presets
    program = a.bundle / "text2llm"
    report.part("doctor", lambda: last_json(run([program, "doctor", "--json"], 60)[1]))
    on_gpu = a.device == "cuda"
    names = "cuda" if on_gpu else "agrees_with_the_reference"
    report.part("kernel suite", lambda: tests(report, a.bundle / "compute-tests", a.bundle, names))
    # The first is without a cache of kernels, the second has one.
    before = os.environ.get("XDG_CACHE_HOME")
    with tempfile.TemporaryDirectory() as cache:
        os.environ["XDG_CACHE_HOME"] = cache
        report.part("first step, compiled", lambda: steps(report, program, a.presets[0], a.dtype, 4))
        report.part("first step, from the cache", lambda: steps(report, program, a.presets[0], a.dtype, 4))
    if before is None:
        del os.environ["XDG_CACHE_HOME"]
    else:
        os.environ["XDG_CACHE_HOME"] = before
    for preset in a.presets:
        report.part(f"step {preset}", lambda preset=preset: steps(report, program, preset, a.dtype, a.steps))
    names = "cuda" if on_gpu else "golden"
    report.part("model tests", lambda: tests(report, a.bundle / "model" / "model-tests", a.bundle / "model", names))
    report.part("killed and resumed", lambda: killed_and_resumed(report, program))
    profile = [program, "bench", "--device", a.device, "--preset", a.presets[0], "--dtype", a.dtype, "--profile", "--json"]
    report.part("profile", lambda: last_json(run(profile, min(report.left_s(), 60))[1]))
    # PyTorch's compiler takes its time: what is ours is done by now, and the shortest comes first.
    for preset in a.presets if a.peer else []:
        for name, more in [(", cuDNN attention", ["--cudnn-sdpa"]), ("", [])] if on_gpu else [("", [])]:
            work = lambda preset=preset, more=more: peer(report, a.peer, preset, a.dtype, a.steps, ["--compile", *more])
            report.part(f"peer {preset}{name}", work)
    if on_gpu:
        report.part("compute-sanitizer", lambda: sanitized(report, a.bundle / "compute-tests", a.bundle, "cuda::bf16"))
    text = table(report)
    report.data["table"] = text
    report.data["bounds"] = {
        preset: {"mfu": figures.get("mfu"), "at_least": MFU_BOUNDS[preset]}
        for preset in a.presets if preset in MFU_BOUNDS and "mfu" in (figures := report.data["parts"].get(f"step {preset}", {}))
    }
    a.out.write_text(json.dumps(report.data, indent=1) + "\n")
    print(text)
    failed = [name for name, part in report.data["parts"].items() if "error" in part or part.get("passed") is False]
    if failed:
        print("failed: " + ", ".join(failed), file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
