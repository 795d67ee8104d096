#!/usr/bin/env python3
"""Quantizes graphs of 1,000 to 100,000 nodes with onnxq-opt and prints the time per node.

    target/oracle-venv/bin/python tests/bench/scaling.py target/release/onnxq-opt

chain   x -> MatMul -> Add -> Relu -> Identity -> MatMul -> ...   one path through every node
wide    x -> MatMul, Relu, many times side by side -> Sum         a value with thousands of uses
deep    the chain with a branch around every four nodes            as residual networks have

Time per node must not grow: the last column is the cost per node over that of the smallest graph
of its kind, and the exit status is 1 where it passes `--limit`.
"""
import argparse
import os
import subprocess
import sys
import tempfile

from process import ours, run, table

# In a process of its own, so that the measuring one stays small (see process.py).
GENERATE = """
import sys
import numpy as np
from onnx import TensorProto, helper, numpy_helper, save
kind, count, out = sys.argv[1], int(sys.argv[2]), sys.argv[3]
rng = np.random.default_rng(1)
nodes, weights = [], []
def put(name, *shape):
    weights.append(numpy_helper.from_array(rng.normal(0, 0.5, shape).astype(np.float32), name))
    return name
def add(op, *inputs):
    name = "%s_%d" % (op, len(nodes))
    nodes.append(helper.make_node(op, inputs, [name + "_out"], name=name))
    return name + "_out"
x = "x"
if kind == "wide":
    ends = []
    while len(nodes) < count - 1:
        ends.append(add("Relu", add("MatMul", "x", put("w%d" % len(nodes), 4, 4))))
    x = add("Sum", *ends)
else:
    while len(nodes) < count:
        i = len(nodes)
        h = add("Relu", add("Add", add("MatMul", x, put("w%d" % i, 4, 4)), put("b%d" % i, 4)))
        x = add("Add", x, h) if kind == "deep" else add("Identity", h)
value = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 4])
graph = helper.make_graph(nodes, kind, [value("x")], [value(x)], weights)
save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), out)
"""


def main():
    ap = argparse.ArgumentParser(description="Time per node of onnxq-opt on growing graphs.")
    ap.add_argument("onnxq_opt")
    ap.add_argument("--sizes", default="1000,10000,100000")
    ap.add_argument("--kinds", default="chain,wide,deep")
    ap.add_argument("--rounds", type=int, default=3, help="the fastest counts")
    ap.add_argument("--timeout", type=float, default=120)
    ap.add_argument("--limit", type=float, default=3.0)
    args = ap.parse_args()
    rows, bad = [], False
    with tempfile.TemporaryDirectory() as folder:
        model, out = os.path.join(folder, "model.onnx"), os.path.join(folder, "out.onnx")
        for kind in args.kinds.split(","):
            smallest = None
            for size in map(int, args.sizes.split(",")):
                subprocess.run([sys.executable, "-B", "-c", GENERATE, kind, str(size), model], check=True)
                runs = [run(ours(args.onnxq_opt, model, out), args.timeout) for _ in range(args.rounds)]
                failed = next((r["error"] for r in runs if "error" in r), None)
                if failed:
                    rows.append([kind, size, "FAILED: " + failed, "", "", ""])
                    bad = True
                    continue
                best = min(runs, key=lambda r: r["cpu_s"])
                each = best["cpu_s"] / size
                smallest = smallest or each
                bad |= each > args.limit * smallest
                rows.append([kind, size, "%.3f" % best["cpu_s"], "%.1f" % (1e6 * each), "%.0f" % best["peak_mib"],
                             "%.2f" % (each / smallest)])
    table(["graph", "nodes", "cpu s", "us per node", "peak MiB", "growth"], rows)
    return bad


if __name__ == "__main__":
    sys.exit(main())
