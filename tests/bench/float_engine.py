#!/usr/bin/env python3
"""One pass of float models by our Plan and by ONNX Runtime, on one thread.

    cargo build --release -p onnxq --example float_engine
    target/oracle-venv/bin/python tests/bench/float_engine.py target/release/examples/float_engine \\
        MODEL.onnx=INPUTS.npz ...

Processor milliseconds of the fastest pass in a round; both take turns, round by round, and the
ratios are medians over the rounds of ours divided by theirs: below 1, ours is faster. ONNX Runtime
optimizes the model as it does by default. Arrays named `input/...` are inputs.
"""
import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import onnxruntime as ort


def inputs_of(path):
    arrays = np.load(path)
    return {k.removeprefix("input/"): arrays[k] for k in arrays.files if not k.startswith("output/")}


def session(model):
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def fastest(f, passes):
    best = float("inf")
    for _ in range(passes):
        start = time.process_time()
        f()
        best = min(best, time.process_time() - start)
    return best * 1e3


def measure(program, model, inputs, rounds, passes, folder):
    feed = inputs_of(inputs)
    plain = os.path.join(folder, "inputs.npz")
    np.savez(plain, **feed)
    theirs = session(model)
    ours = subprocess.Popen([program, model, plain], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ours_fastest(n):
        ours.stdin.write(f"{n}\n")
        ours.stdin.flush()
        return float(ours.stdout.readline())

    ours_fastest(2), fastest(lambda: theirs.run(None, feed), 2)
    figures = [(ours_fastest(passes), fastest(lambda: theirs.run(None, feed), passes)) for _ in range(rounds)]
    ours.stdin.close()
    ours.wait()
    return [statistics.median(c) for c in zip(*((a, b, a / b) for a, b in figures))]


def main():
    ap = argparse.ArgumentParser(description="One pass of float models, against ONNX Runtime.")
    ap.add_argument("program")
    ap.add_argument("models", nargs="+", metavar="MODEL=INPUTS")
    ap.add_argument("--rounds", type=int, default=7)
    ap.add_argument("--passes", type=int, default=3)
    args = ap.parse_args()
    print(f"{'model':<28}{'ours ms':>10}{'theirs ms':>11}{'ratio':>8}")
    for pair in args.models:
        model, inputs = pair.split("=")
        with tempfile.TemporaryDirectory() as folder:
            ours, theirs, ratio = measure(args.program, model, inputs, args.rounds, args.passes, folder)
        print(f"{os.path.basename(model):<28}{ours:>10.2f}{theirs:>11.2f}{ratio:>8.2f}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
