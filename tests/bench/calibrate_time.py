#!/usr/bin/env python3
"""Quantizes models statically with onnxq-opt and with the ONNX Runtime tool, and compares what it costs.

    target/oracle-venv/bin/python tests/bench/calibrate_time.py target/release/onnxq-opt MODEL[=DATA.npz]...

Whole processes, from start to exit: processor seconds over all cores, seconds on the clock, peak
memory, for each calibration method. Ours runs `--passes preprocess,quantize{calibration-method=M}
--calibration-data`; theirs is `quantize_static`, which reads the same samples one by one. A model
without data gets random images. Both run on the same `--cpus`. The two take turns, and the ratios
printed are medians over the rounds of theirs divided by ours: above 1, ours is cheaper. The first
run of each warms up and is not counted. Our histograms have 2048 bins, also for entropy, where the
reference tool has its default of 128, which costs less and leaves nothing to choose.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile

from process import run, table
from quantize_time import KEYS, summarize

METHODS = {"minmax": "minmax", "entropy": "entropy num-bins=2048", "percentile": "percentile"}

# In processes of their own, so that the measuring one stays small (see process.py).
GENERATE = """
import sys
import numpy as np
out, count = sys.argv[1], int(sys.argv[2])
rng = np.random.default_rng(1)
np.savez(out, input=rng.standard_normal((count, 3, 224, 224), dtype=np.float32))
"""

REFERENCE = """
import logging, os, sys
logging.disable(logging.CRITICAL)
method, source, data, out, *options = sys.argv[1:]
import numpy as np
import onnxruntime
onnxruntime.set_default_logger_severity(4)
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, quantize_static
os.chdir(os.path.dirname(out))
method = {m.name.lower(): m for m in CalibrationMethod}[method]
inputs = {i.name for i in onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"]).get_inputs()}
class Reader(CalibrationDataReader):
    def __init__(self):
        arrays = np.load(data)
        arrays = {name: arrays[name] for name in arrays.files if name in inputs}
        count = len(next(iter(arrays.values())))
        self.samples = iter({name: a[i:i + 1] for name, a in arrays.items()} for i in range(count))
    def get_next(self):
        return next(self.samples, None)
quantize_static(source, out, Reader(), calibrate_method=method, per_channel="per-channel" in options)
"""


def ours(program, method, model, data, out, threads):
    passes = "preprocess,quantize{calibration-method=%s}" % METHODS[method]
    return [program, model, "--passes", passes, "--calibration-data", data, "-o", out, "--quiet",
            "--threads", str(threads)]


def reference(python, method, model, data, out):
    return [python, "-B", "-c", REFERENCE, method, *map(os.path.abspath, (model, data, out))]


def generate(out, count):
    subprocess.run([sys.executable, "-B", "-c", GENERATE, out, str(count)], check=True)


def measure(args, method, model, data, out):
    mine = ours(args.onnxq_opt, method, model, data, out, args.cpus)
    theirs = reference(args.python, method, model, data, out)
    pin = ["taskset", "-c", "0-%d" % (args.cpus - 1)]
    first = run(pin + mine)
    if "error" in first:
        return {"error": first["error"]}
    result = {"ours": [], "theirs": []}
    result["their_error"] = run(pin + theirs, args.timeout).get("error")
    for i in range(args.rounds):
        turns = [("ours", mine), ("theirs", theirs)]
        for who, argv in turns[::-1] if i % 2 else turns:
            if who == "ours" or not result["their_error"]:
                result[who].append(run(pin + argv, args.timeout))
    return {**result, **summarize(result)}


def row(name, method, result):
    if "error" in result:
        return [name, method, "FAILED: " + result["error"]] + [""] * 8
    cells = [name, method]
    for key, form in zip(KEYS, ("%.2f", "%.2f", "%.0f")):
        for who in ("ours", "theirs"):
            cells.append(form % result[who][key] if result[who] else "fails")
        cells.append("%.1fx" % result["ratio"][key] if result["ratio"] else "-")
    return cells


def main():
    ap = argparse.ArgumentParser(description="Cost of static quantization, against the ONNX Runtime tool.")
    ap.add_argument("onnxq_opt")
    ap.add_argument("models", nargs="+", metavar="MODEL[=DATA.npz]")
    ap.add_argument("--methods", default=",".join(METHODS))
    ap.add_argument("--samples", type=int, default=64, help="random images (default: 64)")
    ap.add_argument("--rounds", type=int, default=3)
    ap.add_argument("--cpus", type=int, default=os.cpu_count())
    ap.add_argument("--timeout", type=float, default=1800)
    ap.add_argument("--python", default=sys.executable, help="an interpreter with onnxruntime (default: this one)")
    ap.add_argument("--json", metavar="FILE")
    args = ap.parse_args()
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        images = os.path.join(folder, "images.npz")
        generate(images, args.samples)
        for model, _, data in (m.partition("=") for m in args.models):
            name = os.path.splitext(os.path.basename(model))[0]
            for method in args.methods.split(","):
                out = os.path.join(folder, "out.onnx")
                results[name, method] = measure(args, method, model, data or images, out)
                print(name, method, file=sys.stderr, flush=True)
    table(["model", "method", "cpu s", "theirs", "ratio", "wall s", "theirs", "ratio", "peak MiB", "theirs", "ratio"],
          [row(*key, r) for key, r in results.items()])
    for (name, method), result in results.items():
        if result.get("their_error"):
            print("%s %s, the reference tool: %s" % (name, method, result["their_error"]))
    if args.json:
        with open(args.json, "w") as f:
            json.dump({" ".join(key): r for key, r in results.items()}, f, indent=1)
    return any("error" in r for r in results.values())


if __name__ == "__main__":
    sys.exit(main())
