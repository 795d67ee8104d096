#!/usr/bin/env python3
"""Quantizes chains of small Conv and Sigmoid nodes statically, per channel, and prints the time.

    target/oracle-venv/bin/python tests/bench/calibrate_chain.py target/release/onnxq-opt [--reference]

Every Conv is 1x1 from 4 to 4 channels with a bias; calibration has one sample. The work is nothing,
so what is measured is how the programs look up tensors: the reference tool is quadratic. Ours must
stay linear, and under a second at 400: the exit status is 1 where it does not.
"""
import argparse
import os
import subprocess
import sys
import tempfile

from calibrate_time import reference
from process import run, table

# In a process of its own, so that the measuring one stays small (see process.py).
GENERATE = """
import sys
import numpy as np
from onnx import TensorProto, helper, numpy_helper, save
count, model, data = int(sys.argv[1]), sys.argv[2], sys.argv[3]
rng = np.random.default_rng(1)
nodes, weights, x = [], [], "x"
for i in range(count):
    for name, shape in (("w%d" % i, (4, 4, 1, 1)), ("b%d" % i, (4,))):
        weights.append(numpy_helper.from_array(rng.normal(0, 0.5, shape).astype(np.float32), name))
    nodes.append(helper.make_node("Conv", [x, "w%d" % i, "b%d" % i], ["c%d" % i], name="conv%d" % i))
    nodes.append(helper.make_node("Sigmoid", ["c%d" % i], ["s%d" % i], name="sigmoid%d" % i))
    x = "s%d" % i
value = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4, 8, 8])
graph = helper.make_graph(nodes, "chain", [value("x")], [value(x)], weights)
save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), model)
np.savez(data, x=rng.normal(0, 1, (1, 4, 8, 8)).astype(np.float32))
"""


def ours(program, model, data, out):
    return [program, model, "--passes", "quantize{per-channel}", "--calibration-data", data, "-o", out, "--quiet"]


def main():
    ap = argparse.ArgumentParser(description="Time of static quantization by number of nodes.")
    ap.add_argument("onnxq_opt")
    ap.add_argument("--sizes", default="100,200,400,4000")
    ap.add_argument("--rounds", type=int, default=3, help="the fastest counts")
    ap.add_argument("--limit", type=float, default=3.0, help="growth of the time per node that is allowed")
    ap.add_argument("--reference", action="store_true", help="run the ONNX Runtime tool as well, once, up to 400")
    args = ap.parse_args()
    rows, bad, smallest = [], False, None
    with tempfile.TemporaryDirectory() as folder:
        model, data, out = (os.path.join(folder, f) for f in ("chain.onnx", "data.npz", "out.onnx"))
        for size in map(int, args.sizes.split(",")):
            subprocess.run([sys.executable, "-B", "-c", GENERATE, str(size), model, data], check=True)
            runs = [run(ours(args.onnxq_opt, model, data, out)) for _ in range(args.rounds)]
            failed = next((r["error"] for r in runs if "error" in r), None)
            if failed:
                rows.append([size, "FAILED: " + failed, "", "", ""])
                bad = True
                continue
            best = min(r["cpu_s"] for r in runs)
            wall = min(r["wall_s"] for r in runs)
            smallest = smallest or best / size
            bad |= best / size > args.limit * smallest or size <= 400 and wall >= 1
            theirs = "-"
            if args.reference and size <= 400:
                result = run([*reference(sys.executable, "minmax", model, data, out), "per-channel"])
                theirs = result.get("error") or "%.1f" % result["wall_s"]
            rows.append([size, "%.3f" % best, "%.3f" % wall, "%.0f" % (1e6 * best / size), theirs])
    table(["Conv", "cpu s", "wall s", "us per Conv", "reference wall s"], rows)
    return bad


if __name__ == "__main__":
    sys.exit(main())
