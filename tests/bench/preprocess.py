#!/usr/bin/env python3
"""Simplifies models with onnxq-opt and with the tools there are for it, and compares what is left of them.

    python3 -m venv peers && peers/bin/pip install onnxslim onnxsim onnxruntime
    tests/bench/preprocess.py target/release/onnxq-opt MODELS/*.onnx --io IO --python peers/bin/python

Ours runs `--passes preprocess`; theirs are onnxslim, onnxsim, and ONNX Runtime's optimizer at its basic level. For each:
nodes after, those of bodies and of called functions included, bytes after, processor seconds of the whole process, and whether the outputs
for `IO/<model>.npz` (arrays `input/<name>`), or for made-up numbers, are those of the original by ONNX Runtime without
optimization: within 1e-4 and 1e-5 times the largest element.
"""
import argparse
import json
import os
import sys
import tempfile

from process import run, table

TOOLS = {
    "onnxslim": "import sys, onnxslim; onnxslim.slim(sys.argv[1], sys.argv[2])",
    "onnxsim": """
import sys, onnx, onnxsim
model, ok = onnxsim.simplify(onnx.load(sys.argv[1]))
onnx.save(model, sys.argv[2])
""",
    "ort basic": """
import sys, onnxruntime
options = onnxruntime.SessionOptions()
options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
options.optimized_model_filepath = sys.argv[2]
options.log_severity_level = 4
onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
""",
}

# Nodes of a model; with a second one also whether its outputs are the same.
INSPECT = """
import json, os, sys
import numpy, onnx, onnxruntime
original, simple, io = sys.argv[1:4]

model = onnx.load(simple)
functions = {(f.domain, f.name): f for f in model.functions}

def nodes(graph):
    count = 0
    for node in graph.node:
        if (node.domain, node.op_type) in functions:
            # What is called runs, however often it is written down.
            count += nodes(functions[node.domain, node.op_type])
            continue
        # What other tools leave as constants we and they may leave as initializers.
        count += node.op_type != "Constant"
        for attribute in node.attribute:
            count += sum(map(nodes, [attribute.g] if attribute.HasField("g") else attribute.graphs))
    return count

def session(path):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

def made_up(given, random):
    types = {"tensor(float)": "f4", "tensor(int64)": "i8", "tensor(int32)": "i4", "tensor(bool)": "?"}
    dims = [d if isinstance(d, int) else 1 for d in given.shape]
    return random.uniform(0, 1, dims).astype(types[given.type])

first = session(original)
recorded = dict(numpy.load(io)) if os.path.exists(io) else {}
random = numpy.random.default_rng(1)
feed = {}
for given in first.get_inputs():
    keys = [key for key in recorded if key in (given.name, "input/" + given.name)]
    feed[given.name] = recorded[keys[0]] if keys else made_up(given, random)
expected = first.run(None, feed)
second = session(simple)
names = {given.name for given in second.get_inputs()}
got = second.run([output.name for output in first.get_outputs()], {k: v for k, v in feed.items() if k in names})

def equal(a, b):
    if isinstance(a, list):
        return len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    a, b = numpy.asarray(a), numpy.asarray(b)
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    if a.dtype.kind != "f":
        return bool((a == b).all())
    a, b = a.astype("f8"), b.astype("f8")
    scale = numpy.abs(a[numpy.isfinite(a)]).max(initial=0)
    return bool(numpy.allclose(a, b, rtol=1e-4, atol=1e-5 * max(1, scale), equal_nan=True))

print(json.dumps({"nodes": nodes(model.graph), "equal": all(map(equal, expected, got))}))
"""


def inspect(python, original, simple, io):
    import subprocess
    done = subprocess.run([python, "-B", "-c", INSPECT, original, simple, io], capture_output=True, text=True, timeout=600)
    if done.returncode:
        return {"error": done.stderr.strip().splitlines()[-1][:100]}
    return json.loads(done.stdout.splitlines()[-1])


def measure(args, model, folder):
    io = os.path.join(args.io or "", os.path.splitext(os.path.basename(model))[0] + ".npz")
    flows = {"onnxq": lambda out: [args.onnxq_opt, model, "--passes", "preprocess", "-o", out, "--quiet"]}
    for name, code in TOOLS.items():
        flows[name] = lambda out, code=code: [args.python, "-B", "-c", code, model, out]
    results = {}
    for name, argv in flows.items():
        out = os.path.join(folder, name.replace(" ", "_") + ".onnx")
        result = run(argv(out), timeout=args.timeout)
        if "error" not in result:
            result["bytes"] = os.path.getsize(out)
            result.update(inspect(args.python, model, out, io))
        results[name] = result
    return results


def cell(result):
    if "error" in result:
        return ["-", "-", "-", result["error"].split(":")[0][:24]]
    equal = "equal" if result["equal"] else "DIFFERS"
    return [result["nodes"], "%.0f kB" % (result["bytes"] / 1e3), "%.2f" % result["cpu_s"], equal]


def main():
    ap = argparse.ArgumentParser(description="What is left of models, against the tools there are for it.")
    ap.add_argument("onnxq_opt")
    ap.add_argument("models", nargs="+")
    ap.add_argument("--io", help="a folder with `<model>.npz`")
    ap.add_argument("--python", default=sys.executable, help="an interpreter with the other tools (default: this one)")
    ap.add_argument("--timeout", type=float, default=300)
    ap.add_argument("--json", metavar="FILE")
    args = ap.parse_args()
    results = {}
    for model in args.models:
        name = os.path.splitext(os.path.basename(model))[0]
        with tempfile.TemporaryDirectory() as folder:
            results[name] = measure(args, os.path.abspath(model), folder)
        print(name, file=sys.stderr, flush=True)
    tools = ["onnxq", *TOOLS]
    head = ["model"] + [part for tool in tools for part in (tool, "bytes", "cpu s", "outputs")]
    table(head, [[name] + [c for tool in tools for c in cell(r[tool])] for name, r in results.items()])
    right = lambda r: "error" not in r and r["equal"]
    fewest = 0
    for name, result in results.items():
        least = min((r["nodes"] for r in result.values() if right(r)), default=0)
        if right(result["onnxq"]) and result["onnxq"]["nodes"] <= least:
            fewest += 1
        else:
            print("not the fewest nodes: " + name)
    print("onnxq: fewest nodes, or as few as any, on %d of %d; outputs equal on %d" % (
        fewest, len(results), sum(right(r["onnxq"]) for r in results.values())))
    if args.json:
        with open(args.json, "w") as f:
            json.dump(results, f, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
