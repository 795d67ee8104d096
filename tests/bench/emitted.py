#!/usr/bin/env python3
"""Emits models as crates and compares them with `onnxq-opt bench`: latency, time to emit and to compile.

    tests/bench/emitted.py target/release/onnxq-opt MODEL.onnx[:input=1x3x224x224[,NAME=DIMS]...]...

MODEL is quantized already. Each is emitted for --target (several with commas, as the command takes them), built with
`cargo build --release` by plain cargo, from nothing, and its golden test is run. Then the benchmark of the crate and
`onnxq-opt bench --threads 1` take turns, a process each: latencies are medians over the rounds of what the processes
print as their median, and the ratio is the median over the rounds of the crate's divided by that of `bench`: below 1,
the crate is faster. With --realtime both run under `chrt -f 50`, which needs the right to do so.

`size` is what a program that runs the model once has more, in bytes and stripped, than one that does nothing.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

from process import table


def run(argv, **options):
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          **options)
    if done.returncode:
        sys.exit("%s: %s" % (" ".join(argv), done.stderr.strip()[-2000:]))
    return done.stdout


def cargo(folder, *args, target=None):
    environment = {**os.environ, "CARGO_TARGET_DIR": os.path.join(target or folder, "target")}
    start = time.perf_counter()
    run(["cargo", *args], cwd=folder, env=environment)
    return time.perf_counter() - start


class Model:
    def __init__(self, args, spec, folder):
        self.args = args
        self.file, _, shapes = spec.partition(":")
        self.name = os.path.basename(self.file).removesuffix(".onnx").replace(".", "_")
        self.shapes = [part for shape in shapes.split(",") if shape for part in ("--shape", shape)]
        self.folder = os.path.join(folder, self.name)
        self.times = {"emitted": [], "bench": []}

    def build(self):
        start = time.perf_counter()
        run([self.args.onnxq_opt, "emit", self.file, "-o", self.folder, "--target", self.args.target, "--quiet",
             *self.shapes])
        self.emit_s = time.perf_counter() - start
        self.build_s = cargo(self.folder, "build", "--release")
        cargo(self.folder, "test", "--release", "--test", "golden")
        cargo(self.folder, "build", "--release", "--example", "bench")
        self.size = self.grown()

    def grown(self):
        """Bytes that the model's code and weights add to a stripped program."""
        weights = os.path.join(self.folder, "src", "weights.bin")
        sizes = []
        for name in ("with", "without"):
            user = os.path.join(self.folder + "_size", name)
            os.makedirs(os.path.join(user, "src"), exist_ok=True)
            with open(os.path.join(self.folder, "examples", "bench.rs")) as f:
                text = f.read().replace("../tests/golden.bin", os.path.join(self.folder, "tests", "golden.bin"))
            if name == "without":
                text = "fn main() {\n    println!(\"{:.4}\", std::hint::black_box(1.0));\n}\n"
            with open(os.path.join(user, "src", "main.rs"), "w") as f:
                f.write(text)
            with open(os.path.join(user, "Cargo.toml"), "w") as f:
                f.write("[package]\nname = \"%s\"\nversion = \"0.1.0\"\nedition = \"2024\"\n"
                        "[dependencies]\n%s = { path = \"%s\" }\n" % (name, self.name, self.folder))
            cargo(user, "rustc", "--release", "--", "-C", "strip=symbols", target=self.folder)
            sizes.append(os.path.getsize(os.path.join(self.folder, "target", "release", name)))
        recorded = os.path.getsize(os.path.join(self.folder, "tests", "golden.bin"))
        self.weights = os.path.getsize(weights) if os.path.exists(weights) else 0
        return sizes[0] - sizes[1] - recorded

    def turn(self):
        first = ["chrt", "-f", "50"] if self.args.realtime else []
        text = run(first + [os.path.join(self.folder, "target", "release", "examples", "bench")])
        self.isa = text.splitlines()[0].rpartition(" ")[2]
        self.times["emitted"].append(float(text.splitlines()[-1].rpartition(" ")[2]))
        text = run(first + [self.args.onnxq_opt, "bench", self.file, "--threads", "1", "--isa", self.isa, "--json",
                            *self.shapes])
        self.times["bench"].append(json.loads(text)["models"][0]["median_ms"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("onnxq_opt")
    parser.add_argument("models", nargs="+", metavar="MODEL[:NAME=DIMS,...]")
    parser.add_argument("--target", default="native")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--realtime", action="store_true")
    args = parser.parse_args()
    args.onnxq_opt = os.path.abspath(args.onnxq_opt)
    with tempfile.TemporaryDirectory() as folder:
        models = [Model(args, spec, folder) for spec in args.models]
        for model in models:
            model.build()
        for _ in range(args.rounds):
            for model in models:
                model.turn()
    rows = []
    for m in models:
        ratios = [a / b for a, b in zip(m.times["emitted"], m.times["bench"])]
        medians = {key: statistics.median(times) for key, times in m.times.items()}
        rows.append([m.name, m.isa, "%.2f" % m.emit_s, "%.1f" % m.build_s, m.size - m.weights, m.weights,
                     "%.4f" % medians["emitted"], "%.4f" % medians["bench"], "%.3f" % statistics.median(ratios),
                     "%.3f-%.3f" % (min(ratios), max(ratios))])
    table(["model", "isa", "emit s", "build s", "code", "weights", "emitted ms", "bench ms", "ratio", "of rounds"], rows)


if __name__ == "__main__":
    main()
