#!/usr/bin/env python3
"""Multiplies bytes by constant weights with onnxq-kernels, ONNX Runtime, OpenVINO and oneDNN, and compares the speeds.

    cargo build --release -p onnxq-kernels --example gemm
    tests/bench/products.py target/release/examples/gemm --python PYTHON --onednn LIB/libdnnl.so.3

PYTHON has numpy, onnx, onnxruntime and, if that is to be compared, openvino; LIB is the folder `lib` of an environment
with the package onednn. Every figure is of a process of its own, and the tools take turns.

Operands of all tools are random bytes, and ours become bytes at the end. Of others the fastest form counts:

    mmi      MatMulInteger in ONNX Runtime, to 32 bits
    qlinear  QLinearMatMul in ONNX Runtime, to bytes
    ov       OpenVINO, whose product is of floats that it quantizes itself
    dnnl32   oneDNN, to 32 bits
    dnnl8    oneDNN, scaled to bytes

A figure is 10^9 operations a second, multiplications and additions counted apart: the median of short rounds by the
processor's time of one thread, or the clock for more; with --best the fastest round.
"""
import argparse
import itertools
import math
import os
import re
import statistics
import subprocess
import sys

from process import table

SHAPES = ("128x384x384 128x1536x384 128x384x1536 3136x64x576 784x128x1152 196x256x2304 49x512x4608 1x1024x1024 "
          "1x4096x4096 1024x1024x1024 2048x2048x2048")
TOOLS = {"u8s8": ("mmi", "qlinear", "ov", "dnnl32", "dnnl8"), "s8s8": ("mmi", "dnnl32", "dnnl8")}

COMMON = """
import ctypes, logging, sys, time
logging.disable(logging.CRITICAL)
import numpy as np
tool, signed = sys.argv[1], sys.argv[2] == "s8s8"
m, n, k, threads = map(int, sys.argv[3:7])
rng = np.random.default_rng(0)
left = rng.integers(-128, 128, (m, k)).astype(np.int8) if signed else rng.integers(0, 256, (m, k)).astype(np.uint8)
right = rng.integers(-127, 128, (k, n)).astype(np.int8)

def figures(run):
    clock = time.process_time if threads == 1 else time.perf_counter
    for _ in range(3):
        run()
    rounds = []
    for _ in range(9):
        calls, start, spent = 0, clock(), 0
        while spent < 0.02:
            run()
            calls, spent = calls + 1, clock() - start
        rounds.append(2 * m * n * k * calls / spent / 1e9)
    print("%.1f %.1f" % (max(rounds), np.median(rounds)))
"""

MODELS = COMMON + """
from onnx import TensorProto as T, helper as h, numpy_helper
constant = lambda name, value: numpy_helper.from_array(np.asarray(value), name)
info = h.make_tensor_value_info
scale, zero = np.float32(0.02), np.int8(0) if signed else np.uint8(128)
constants = [constant("w", right), constant("s", scale), constant("z", zero), constant("wz", np.int8(0))]
if tool == "mmi":
    nodes, to = [h.make_node("MatMulInteger", ["x", "w"], ["y"])], T.INT32
elif tool == "qlinear":
    nodes, to = [h.make_node("QLinearMatMul", ["x", "s", "z", "w", "s", "wz", "s", "z"], ["y"])], T.UINT8
else:
    nodes = [h.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]), h.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
             h.make_node("DequantizeLinear", ["w", "s", "wz"], ["v"]), h.make_node("MatMul", ["d", "v"], ["y"])]
    to, left = T.FLOAT, rng.standard_normal((m, k)).astype(np.float32)
type = h.np_dtype_to_tensor_dtype(left.dtype)
graph = h.make_graph(nodes, "g", [info("x", type, [m, k])], [info("y", to, [m, n])], constants)
model = h.make_model(graph, opset_imports=[h.make_opsetid("", 14)], ir_version=8).SerializeToString()
if tool == "ov":
    import openvino
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(model), "CPU", {
        "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY", "ENABLE_CPU_PINNING": False,
        "INFERENCE_PRECISION_HINT": "f32"})
    request = compiled.create_infer_request()
    request.set_input_tensor(openvino.Tensor(left, shared_memory=True))
    figures(request.infer)
else:
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 4
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    binding.bind_ortvalue_input("x", onnxruntime.OrtValue.ortvalue_from_numpy(left))
    result = np.zeros((m, n), {T.INT32: np.int32, T.UINT8: np.uint8}[to])
    binding.bind_ortvalue_output("y", onnxruntime.OrtValue.ortvalue_from_numpy(result))
    figures(lambda: session.run_with_iobinding(binding))
"""

# The C interface of oneDNN 3, whose numbers are those of its headers.
DNNL = COMMON + """
dnnl = ctypes.CDLL(sys.argv[7])
f32, s32, s8, u8 = 3, 4, 5, 6
any_format, row_major, vector = 1, 3, 2
source, destination, weights, scales = 1, 17, 33, 4096
weights_description, engine_of_cpu, allocate = 131, 1, ctypes.c_void_p(-1)
pointer = ctypes.c_void_p

def made(function, *arguments):
    result = pointer()
    status = getattr(dnnl, "dnnl_" + function)(ctypes.byref(result), *arguments)
    assert status == 0, "%s: status %d" % (function, status)
    return result

def description(dims, type, format):
    return made("memory_desc_create_with_tag", len(dims), (ctypes.c_int64 * len(dims))(*dims), type, format)

def memory(description, data):
    it = made("memory_create", description, engine, allocate)
    handle = pointer()
    assert dnnl.dnnl_memory_get_data_handle(it, ctypes.byref(handle)) == 0
    dnnl.dnnl_memory_desc_get_size.restype = ctypes.c_size_t
    size = dnnl.dnnl_memory_desc_get_size(description)
    data = np.resize(np.frombuffer(data.tobytes(), np.uint8), size)
    ctypes.memmove(handle, data.ctypes.data, size)
    return it

class Argument(ctypes.Structure):
    _fields_ = [("number", ctypes.c_int), ("memory", pointer)]

engine = made("engine_create", engine_of_cpu, ctypes.c_size_t(0))
stream = made("stream_create", engine, 1)
to = s32 if tool == "dnnl32" else s8 if signed else u8
x = description([m, k], s8 if signed else u8, row_major)
w = description([k, n], s8, any_format)
y = description([m, n], to, row_major)
attributes, factors = made("primitive_attr_create"), {}
if tool == "dnnl8":
    for argument, count in (source, 1), (weights, n), (destination, 1):
        assert dnnl.dnnl_primitive_attr_set_scales_mask(attributes, argument, 2 if count == n > 1 else 0) == 0
        values = np.full(count, 0.02, np.float32)
        factors[scales | argument] = memory(description([count], f32, vector), values)
product = made("matmul_primitive_desc_create", engine, x, w, None, y, attributes)
dnnl.dnnl_primitive_desc_query_md.restype = pointer
packed = pointer(dnnl.dnnl_primitive_desc_query_md(product, weights_description, 0))
operands = {source: memory(x, left), weights: memory(packed, right), destination: memory(y, np.zeros(1, np.uint8)), **factors}
arguments = (Argument * len(operands))(*operands.items())
primitive = made("primitive_create", product)

def run():
    assert dnnl.dnnl_primitive_execute(primitive, stream, len(operands), arguments) == 0
    dnnl.dnnl_stream_wait(stream)

figures(run)
"""


def figure(args, tool, types, shape):
    """10^9 operations a second."""
    sizes = shape.split("x")
    environment = {**os.environ, "OMP_NUM_THREADS": str(args.threads)}
    if tool == "ours":
        rows, columns, depth = sizes
        argv = [args.gemm, rows, depth, columns, "--types", types, "--threads", str(args.threads)]
    elif tool.startswith("dnnl"):
        argv = [args.python, "-B", "-c", DNNL, tool, types, *sizes, str(args.threads), args.onednn]
        libraries = [os.path.dirname(args.onednn), os.environ.get("LD_LIBRARY_PATH")]
        environment["LD_LIBRARY_PATH"] = ":".join(filter(None, libraries))
    else:
        argv = [args.python, "-B", "-c", MODELS, tool, types, *sizes, str(args.threads)]
    process = subprocess.run(argv, env=environment, capture_output=True, text=True)
    if process.returncode:
        raise RuntimeError((process.stderr.strip().splitlines() or ["no message"])[-1])
    numbers = re.findall(r"\d+\.\d+", process.stdout)
    return float(numbers[0 if args.best else -1])


def measure(args, types, shape, failed):
    """The figures of each tool, round by round; tools that fail are left out."""
    results = {tool: [] for tool in ("ours", *TOOLS[types])}
    if not args.onednn:
        results = {tool: figures for tool, figures in results.items() if not tool.startswith("dnnl")}
    for _ in range(args.rounds):
        for tool in list(results):
            try:
                results[tool].append(figure(args, tool, types, shape))
            except RuntimeError as e:
                failed["%s, %s: %s" % (tool, types, e)] = None
                del results[tool]
    return {tool: statistics.median(figures) for tool, figures in results.items()}


def main():
    parser = argparse.ArgumentParser(description="Speeds of integer products, against other libraries.")
    parser.add_argument("gemm", help="the example `gemm` of onnxq-kernels")
    parser.add_argument("--python", default=sys.executable, help="an interpreter with the others (default: this one)")
    parser.add_argument("--onednn", metavar="LIBDNNL", type=os.path.abspath)
    parser.add_argument("--shapes", default=SHAPES, help="rows x columns x depth, apart by spaces")
    parser.add_argument("--types", default=["u8s8", "s8s8"], type=lambda s: s.split(","), help="of u8s8,s8s8")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--best", action="store_true", help="compare the fastest rounds, not the median ones")
    args = parser.parse_args()
    failed, rows, ratios = {}, [], {}
    for types, shape in itertools.product(args.types, args.shapes.split()):
        results = measure(args, types, shape, failed)
        ours = results.pop("ours")
        runtime = max([v for tool, v in results.items() if tool in ("mmi", "qlinear")], default=math.nan)
        best = max(results, key=results.get)
        cells = ["%.0f" % results[tool] if tool in results else "" for tool in TOOLS["u8s8"]]
        for name, theirs in ("ONNX Runtime", runtime), ("the best", results[best]):
            ratios.setdefault((types, name), []).append(ours / theirs)
        rows.append([types, shape, "%.0f" % ours, *cells, "%.2fx" % (ours / runtime), "%.2fx" % (ours / results[best])])
        print(types, shape, file=sys.stderr, flush=True)
    table(["types", "shape", "ours", *TOOLS["u8s8"], "ONNX Runtime", "the best"], rows)
    for (types, name), values in ratios.items():
        print("%s against %s: geometric mean %.2fx" % (types, name, statistics.geometric_mean(values)))
    for line in failed:
        print("failed: %s" % line[:300])


if __name__ == "__main__":
    sys.exit(main())
