#!/usr/bin/env python3
"""Convolutions of 8-bit integers by onnxq-kernels, ONNX Runtime and OpenVINO, and their speeds side by side.

    cargo build --release -p onnxq-kernels --example conv
    tests/bench/convolutions.py target/release/examples/conv --python PYTHON

PYTHON has numpy, onnx, onnxruntime and, if that is to be compared, openvino. Every figure is of a process of its own, and
the tools take turns. A unit is what the example takes:

    dw3x3:C:H      depthwise, 3x3, C channels of HxH
    pw:CI-CO:H     1x1 from CI to CO channels, and another one back
    c3:C:H         3x3 from C channels to as many

The others run models in QDQ form, whose units follow each other: what seven of them take longer than one, by six, so that
the conversions of input and output do not count. A figure is 10^9 operations a second, multiplications and additions
counted apart: the median of rounds by the processor's time of one thread, or the clock for more; with --best the fastest.
"""
import argparse
import itertools
import math
import re
import statistics
import subprocess
import sys

from process import table

UNITS = ("dw3x3:32:112 dw3x3:144:56 dw3x3:192:28 dw3x3:384:14 dw3x3:576:14 dw3x3:960:7 "
         "pw:24-144:56 pw:32-192:28 pw:64-384:14 pw:96-576:14 pw:160-960:7 pw:64-256:56 pw:128-512:28 pw:256-1024:14 "
         "pw:512-2048:7 c3:64:56 c3:128:28 c3:256:14 c3:512:7")

MODELS = """
import logging, sys, time
logging.disable(logging.CRITICAL)
import numpy as np
from onnx import TensorProto as T, helper as h, numpy_helper
tool, unit, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
kind, channels, size = unit.split(":")
size = int(size)
# Channels of the result, of each group of the input, the kernel, and the groups.
if kind == "pw":
    first, second = map(int, channels.split("-"))
    layers = [(second, first, 1, 1), (first, second, 1, 1)]
else:
    first = int(channels)
    layers = [(first, first, 3, 1) if kind == "c3" else (first, 1, 3, first)]
operations = sum(2 * to * of * kernel ** 2 * size ** 2 for to, of, kernel, _ in layers)
rng = np.random.default_rng(0)

def chain(units):
    nodes, constants = [], []
    def constant(value):
        constants.append(numpy_helper.from_array(value, "c%d" % len(constants)))
        return constants[-1].name
    def add(operator, *inputs, **attributes):
        nodes.append(h.make_node(operator, inputs, ["v%d" % len(nodes)], **attributes))
        return nodes[-1].output[0]
    scale, zero = constant(np.float32(0.03)), constant(np.uint8(128))
    quantized = lambda value: add("DequantizeLinear", add("QuantizeLinear", value, scale, zero), scale, zero)
    value = quantized("x")
    for to, of, kernel, groups in layers * units:
        weights = constant(rng.integers(-127, 128, (to, of, kernel, kernel)).astype(np.int8))
        scales = np.full(to, 0.4 / (of * kernel ** 2) ** 0.5 / 73, np.float32)
        zeros = constant(np.zeros(to, np.int8))
        weights = add("DequantizeLinear", weights, constant(scales), zeros, axis=0)
        bias = constant(rng.integers(-1000, 1000, to).astype(np.int32))
        bias = add("DequantizeLinear", bias, constant(scales * np.float32(0.03)), constant(np.zeros(to, np.int32)), axis=0)
        value = add("Conv", value, weights, bias, group=groups, kernel_shape=[kernel] * 2, pads=[kernel // 2] * 4)
        value = quantized(value)
    tensor = lambda name: h.make_tensor_value_info(name, T.FLOAT, [1, first, size, size])
    graph = h.make_graph(nodes, "g", [tensor("x")], [tensor(value)], constants)
    return value, h.make_model(graph, opset_imports=[h.make_opsetid("", 14)], ir_version=8).SerializeToString()

x = rng.standard_normal((1, first, size, size)).astype(np.float32)

def runs(units):
    name, model = chain(units)
    if tool == "ov":
        import openvino
        core = openvino.Core()
        compiled = core.compile_model(core.read_model(model), "CPU", {
            "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY",
            "ENABLE_CPU_PINNING": False, "INFERENCE_PRECISION_HINT": "f32"})
        request = compiled.create_infer_request()
        request.set_input_tensor(openvino.Tensor(x, shared_memory=True))
        return request.infer
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 4
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    binding.bind_ortvalue_input("x", onnxruntime.OrtValue.ortvalue_from_numpy(x))
    binding.bind_ortvalue_output(name, onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros_like(x)))
    return lambda: session.run_with_iobinding(binding)

clock = time.process_time if threads == 1 else time.perf_counter
def seconds(run):
    calls, start, spent = 0, clock(), 0
    while spent < 0.03:
        run()
        calls, spent = calls + 1, clock() - start
    return spent / calls

few, many = runs(1), runs(7)
for run in (few, many) * 2:
    seconds(run)
rounds = sorted((seconds(many) - seconds(few)) / 6 for _ in range(9))
# One that is far too short was disturbed while it ran without the six.
speeds = [operations / max(time, rounds[4] / 2) / 1e9 for time in rounds]
print("%.1f %.1f" % (speeds[0], speeds[4]))
"""


def figure(args, tool, unit):
    """10^9 operations a second."""
    argv = [args.python, "-B", "-c", MODELS, tool, unit, str(args.threads)]
    if tool == "ours":
        argv = [args.conv, unit, "--threads", str(args.threads)]
    process = subprocess.run(argv, capture_output=True, text=True)
    if process.returncode:
        raise RuntimeError((process.stderr.strip().splitlines() or ["no message"])[-1])
    numbers = re.findall(r"\d+\.\d+", process.stdout)
    return float(numbers[0 if args.best else -1])


def main():
    parser = argparse.ArgumentParser(description="Speeds of integer convolutions, against other libraries.")
    parser.add_argument("conv", help="the example `conv` of onnxq-kernels")
    parser.add_argument("--python", default=sys.executable, help="an interpreter with the others (default: this one)")
    parser.add_argument("--units", default=UNITS, help="apart by spaces")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--best", action="store_true", help="compare the fastest rounds, not the median ones")
    args = parser.parse_args()
    tools, rows, ratios, failed = ["ours", "ort", "ov"], [], {}, {}
    for unit in args.units.split():
        results = {tool: [] for tool in tools}
        for _, tool in itertools.product(range(args.rounds), tools):
            try:
                results[tool].append(figure(args, tool, unit))
            except RuntimeError as e:
                failed["%s, %s: %s" % (tool, unit, e)] = None
        ours, runtime, openvino = (statistics.median(results[tool] or [math.nan]) for tool in tools)
        best = max(f for f in (runtime, openvino, 0) if not math.isnan(f)) or math.nan
        for name, theirs in ("ONNX Runtime", runtime), ("OpenVINO", openvino), ("the better", best):
            group = "depthwise" if unit.startswith("dw") else "others"
            ratios.setdefault(("all", name), []).append(ours / theirs)
            ratios.setdefault((group, name), []).append(ours / theirs)
        cells = ["%.0f" % f for f in (ours, runtime, openvino)]
        rows.append([unit, *cells, "%.2fx" % (ours / runtime), "%.2fx" % (ours / openvino), "%.2fx" % (ours / best)])
        print(unit, file=sys.stderr, flush=True)
    table(["unit", "ours", "ort", "ov", "ONNX Runtime", "OpenVINO", "the better"], rows)
    for (group, name), values in ratios.items():
        values = [value for value in values if not math.isnan(value)]
        if values:
            print("%s against %s: geometric mean %.2fx, lowest %.2fx" % (group, name, statistics.geometric_mean(values), min(values)))
    for line in failed:
        print("failed: %s" % line[:300])


if __name__ == "__main__":
    sys.exit(main())
