#!/usr/bin/env python3
"""Calibrates a model on 64 to 1,024 random images with onnxq-opt and prints the peak memory.

    target/oracle-venv/bin/python tests/bench/calibrate_memory.py target/release/onnxq-opt MODEL.onnx

`stored` is what numpy.savez writes, `deflated` what numpy.savez_compressed does. Memory must not
grow with the number of samples, and must stay within 300 MiB over the model's size: the exit
status is 1 where it does not.
"""
import argparse
import os
import subprocess
import sys
import tempfile

from process import run, table

# In a process of its own, so that the measuring one stays small (see process.py). The values have
# few digits, so that there is something to deflate.
GENERATE = """
import sys
import numpy as np
out, count, form = sys.argv[1], int(sys.argv[2]), sys.argv[3]
rng = np.random.default_rng(1)
images = rng.integers(-128, 128, (count, 3, 224, 224), dtype=np.int8).astype(np.float32) / 64
(np.savez_compressed if form == "deflated" else np.savez)(out, input=images)
"""


def main():
    ap = argparse.ArgumentParser(description="Peak memory of calibration by number of samples.")
    ap.add_argument("onnxq_opt")
    ap.add_argument("model")
    ap.add_argument("--counts", default="64,256,1024")
    ap.add_argument("--methods", default="minmax,entropy,percentile")
    ap.add_argument("--forms", default="stored,deflated")
    ap.add_argument("--threads", type=int, default=os.cpu_count())
    ap.add_argument("--growth", type=float, default=16, help="MiB that the peak may grow by (default: 16)")
    args = ap.parse_args()
    size = os.path.getsize(args.model) / 2**20
    rows, bad = [], False
    with tempfile.TemporaryDirectory() as folder:
        data, out = os.path.join(folder, "images.npz"), os.path.join(folder, "ranges.json")
        peaks = {}
        for form in args.forms.split(","):
            for count in map(int, args.counts.split(",")):
                subprocess.run([sys.executable, "-B", "-c", GENERATE, data, str(count), form], check=True)
                for method in args.methods.split(","):
                    argv = [args.onnxq_opt, "calibrate", args.model, "--data", data, "--method", method, "-o", out,
                            "--threads", str(args.threads), "--quiet"]
                    result = run(argv, 3600)
                    if "error" in result:
                        rows.append([method, form, count, "FAILED: " + result["error"], "", "", ""])
                        bad = True
                        continue
                    peak = result["peak_mib"]
                    first = peaks.setdefault((method, form), peak)
                    bad |= peak > size + 300 or peak > first + args.growth
                    rows.append([method, form, count, "%.0f" % peak, "%+.0f" % (peak - first),
                                 "%.0f" % (peak - size), "%.1f" % result["cpu_s"]])
                    print(method, form, count, file=sys.stderr, flush=True)
    print("%s, %.0f MiB, %d threads" % (os.path.basename(args.model), size, args.threads))
    table(["method", "data", "samples", "peak MiB", "growth", "over model", "cpu s"], sorted(rows))
    return bad


if __name__ == "__main__":
    sys.exit(main())
