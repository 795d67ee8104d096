#!/usr/bin/env python3
"""Runs quantized models with onnxq-opt, ONNX Runtime and OpenVINO, and compares what it costs.

    target/oracle-venv/bin/python tests/bench/inference.py target/release/onnxq-opt MODEL.onnx[=DATA.npz]...

Each tool has the model that it is best served with. Ours comes from `preprocess,quantize,fuse`: static with weights per
channel as U8S8 and as S8S8 (and `contrib-ops`), or dynamic. Theirs comes from `quantize_static` (QDQ, U8S8, per
channel) or `quantize_dynamic`, after `quant_pre_process`. OpenVINO gets the static file, and beside dynamic ones the
float model, which it runs in bf16 where the machine has that. DATA is for calibration, arrays by the names of inputs,
samples stacked; without it samples are random. Dimensions that a model leaves open are 1, or 128 where they are named
like the length of a sequence.

Latency: every figure is the median of the runs of a process. The tools take turns, process by process, and the
ratios printed are medians over the rounds of theirs divided by ours: above 1, ours is faster. With --best the
fastest run of a process takes the place of the median, for machines that are shared.

Cost of one run, whole processes: peak memory, and milliseconds from the start of the process to the first result. Ours
is `onnxq-opt run`, with reading inputs and writing outputs; of a Python process, `session` is what is left of the time
without starting the interpreter and importing the tool.
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

KINDS = ("static", "dynamic")

# In processes of their own, so that the measuring one stays small (see process.py).
COMMON = """
import json, logging, os, re, sys, time
logging.disable(logging.CRITICAL)
import numpy as np
"""

# One sample for latency, and samples for calibration where there are none.
INPUTS = COMMON + """
import onnx
model, out, calibration, samples = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
graph = onnx.load(model, load_external_data=False).graph
constant = {i.name for i in graph.initializer}
rng = np.random.default_rng(0)
size = lambda d: d.dim_value or (128 if re.search("seq|token|length", d.dim_param.lower()) else 1)
def values(name, dtype, shape):
    if dtype.kind == "f":
        return rng.uniform(-1, 1, shape).astype(dtype)
    return np.full(shape, 0 if "type" in name else 1, dtype)
one, many = {}, {}
for i in graph.input:
    if i.name in constant:
        continue
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(i.type.tensor_type.elem_type))
    shape = [size(d) for d in i.type.tensor_type.shape.dim]
    one[i.name] = values(i.name, dtype, shape)
    many[i.name] = np.concatenate([values(i.name, dtype, shape) for _ in range(samples)])
np.savez(out, **one)
if calibration:
    np.savez(calibration, **many)
print(json.dumps({name: "x".join(map(str, a.shape)) for name, a in one.items()}))
"""

QUANTIZE = COMMON + """
kind, source, data, samples, out = sys.argv[1:6]
import onnxruntime
onnxruntime.set_default_logger_severity(4)
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
pre = out + ".pre"
try:
    quant_pre_process(source, pre)
except Exception:
    quant_pre_process(source, pre, skip_symbolic_shape=True)
import onnx
model = onnx.load(pre)
if next(o.version for o in model.opset_import if not o.domain) < 13:
    # Before, there are no scales per channel: the tool writes them all the same, and cannot load that.
    from onnx import version_converter
    onnx.save(version_converter.convert_version(model, 13), pre)
session = onnxruntime.InferenceSession(pre, providers=["CPUExecutionProvider"])
inputs = {i.name: len(i.shape) for i in session.get_inputs()}
class Reader(CalibrationDataReader):
    def __init__(self):
        arrays = np.load(data)
        count = min(int(samples), *(len(arrays[name]) for name in inputs))
        self.samples = iter({name: arrays[name][i:i + 1] for name in inputs} for i in range(count))
    def get_next(self):
        return next(self.samples, None)
if kind == "static":
    quantize_static(pre, out, Reader(), quant_format=QuantFormat.QDQ, activation_type=QuantType.QUInt8,
                    weight_type=QuantType.QInt8, per_channel=True)
else:
    # The tool has no product for signed weights of convolutions.
    convolves = any(n.op_type == "Conv" for n in model.graph.node)
    quantize_dynamic(pre, out, weight_type=QuantType.QUInt8 if convolves else QuantType.QInt8)
"""

RUN = COMMON + """
tool, model, inputs, threads, runs = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
if tool == "onnxruntime":
    import onnxruntime
else:
    import openvino
feed = dict(np.load(inputs))
start = time.perf_counter()
if tool == "onnxruntime":
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 4
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    run = lambda: session.run(None, feed)
else:
    core = openvino.Core()
    network = core.read_model(model)
    network.reshape({name: list(a.shape) for name, a in feed.items()})
    compiled = core.compile_model(network, "CPU", {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1,
                                                   "PERFORMANCE_HINT": "LATENCY", "ENABLE_CPU_PINNING": False})
    request = compiled.create_infer_request()
    run = lambda: request.infer(feed, share_inputs=True)
run()
result = {"session_ms": (time.perf_counter() - start) * 1e3, "at": time.time()}
for _ in range(2 if runs else 0):
    run()
times = []
for _ in range(runs):
    start = time.perf_counter()
    run()
    times.append((time.perf_counter() - start) * 1e3)
if times:
    result["median_ms"], result["min_ms"] = float(np.median(times)), min(times)
print(json.dumps(result))
"""


def run(argv):
    """What a process prints, the time when it was started, and its peak memory."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        start = time.time()
        child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=errors)
        _, status, usage = os.wait4(child.pid, 0)
        end = time.time()
        child.returncode = os.waitstatus_to_exitcode(status)  # it has been waited for
        out.seek(0), errors.seek(0)
        if child.returncode:
            lines = errors.read().decode(errors="replace").strip().splitlines()
            raise RuntimeError("%s: %s" % (os.path.basename(argv[0]), (lines or ["exit status %d" % child.returncode])[-1]))
        text = out.read().decode(errors="replace").strip()
        start_line = text.rfind("\n{") + 1 if not text.startswith("{") else 0
        printed = json.loads(text[start_line:]) if "{" in text else {}
        return {**printed, "start": start, "end": end, "peak_mib": usage.ru_maxrss / 1024}


class Bench:
    """One model: its files for each tool, and how each is run."""

    def __init__(self, args, model, data, folder):
        self.args, self.folder = args, folder
        self.model = os.path.abspath(model)
        self.inputs = self.path("inputs.npz")
        calibration = data or self.path("calibration.npz")
        self.shapes = run([args.python, "-B", "-c", INPUTS, self.model, self.inputs, "" if data else calibration,
                           str(args.samples)])
        self.shapes = {k: v for k, v in self.shapes.items() if isinstance(v, str)}
        self.variants = {}  # by row: tool -> file
        self.failed = []
        if "static" in args.kinds:
            u8 = self.ours("static-u8", "per-channel activation-type=uint8", calibration)
            s8 = self.ours("static-s8", "per-channel activation-type=int8", calibration)
            theirs = self.theirs("static", calibration)
            self.variants["static U8S8"] = {"ours": u8, "onnxruntime": theirs, "openvino": theirs}
            self.variants["static S8S8"] = {"ours": s8, "ours U8S8": u8}
        if "dynamic" in args.kinds:
            ours, theirs = self.ours("dynamic", "mode=dynamic", None), self.theirs("dynamic", "")
            self.variants["dynamic"] = {"ours": ours, "onnxruntime": theirs, "openvino": self.model}

    def path(self, name):
        return os.path.join(self.folder, name)

    def ours(self, name, options, calibration):
        out = self.path("ours.%s.onnx" % name)
        argv = [self.args.onnxq_opt, self.model, "--passes",
                "preprocess,quantize{%s},%s" % (options, "fuse{contrib-ops}" if calibration else "fuse"), "-o", out,
                "--quiet"]
        run(argv + (["--calibration-data", calibration] if calibration else []))
        return out

    def theirs(self, kind, calibration):
        out = self.path("theirs.%s.onnx" % kind)
        try:
            run([self.args.python, "-B", "-c", QUANTIZE, kind, self.model, calibration, str(self.args.samples), out])
        except RuntimeError as e:
            self.failed.append("quantize %s: %s" % (kind, e))
            return None
        return out

    def time(self, tool, file, threads):
        """Milliseconds of a run, in a process of its own."""
        runs = str(self.args.runs)
        if tool.startswith("ours"):
            shapes = [x for name, dims in self.shapes.items() if dims for x in ("--shape", "%s=%s" % (name, dims))]
            result = run([self.args.onnxq_opt, "bench", file, "--json", "--threads", str(threads), "--runs", runs,
                          *shapes])["models"][0]
        else:
            result = run([self.args.python, "-B", "-c", RUN, tool, file, self.inputs, str(threads), runs])
        return result["min_ms" if self.args.best else "median_ms"]

    def cost(self, tool, file):
        """Peak memory, and milliseconds from the start to the first result."""
        if tool.startswith("ours"):
            result = run([self.args.onnxq_opt, "run", file, "--inputs", self.inputs, "--outputs", self.path("out.npz"),
                          "--batch", "all", "--threads", "1", "--quiet"])
            first = result["end"] - result["start"]
            return {"peak_mib": result["peak_mib"], "first_ms": first * 1e3, "session_ms": first * 1e3}
        result = run([self.args.python, "-B", "-c", RUN, tool, file, self.inputs, "1", "0"])
        return {"peak_mib": result["peak_mib"], "first_ms": (result["at"] - result["start"]) * 1e3,
                "session_ms": result["session_ms"]}

    def turns(self, variant, measure):
        """What each tool costs, round by round; those that fail are left out."""
        tools = {tool: file for tool, file in self.variants[variant].items() if file}
        results = {tool: [] for tool in tools}
        for i in range(self.args.rounds):
            order = list(tools.items())
            for tool, file in order[::-1] if i % 2 else order:
                if tool not in results:
                    continue
                try:
                    results[tool].append(measure(tool, file))
                except RuntimeError as e:
                    self.failed.append("%s: %s" % (variant, e))
                    del results[tool]
        return results


def middle(values):
    return statistics.median(values)


def ratio(theirs, ours):
    return "%.2fx" % middle(b / a for a, b in zip(ours, theirs))


def latency_rows(name, bench, threads, report):
    for variant in bench.variants:
        results = bench.turns(variant, lambda tool, file: bench.time(tool, file, threads))
        report.setdefault(variant, {})[str(threads)] = dict(results)
        ours = results.pop("ours", None)
        if not ours:
            continue
        for tool, times in results.items():
            yield [name, variant, threads, "%.3f" % middle(ours), tool, "%.3f" % middle(times), ratio(times, ours)]


def cost_rows(name, bench, report):
    for variant in bench.variants:
        results = bench.turns(variant, bench.cost)
        report.setdefault(variant, {})["cost"] = dict(results)
        ours = results.pop("ours", None)
        of = lambda rounds, key: [r[key] for r in rounds]
        for tool, costs in results.items() if ours else ():
            if tool.startswith("ours"):
                continue
            cells = [name, variant, tool]
            for key in ("peak_mib", "first_ms", "session_ms"):
                a, b = of(ours, key), of(costs, key)
                cells += ["%.0f" % middle(a)] * (key != "session_ms") + ["%.0f" % middle(b), ratio(b, a)]
            yield cells


def main():
    ap = argparse.ArgumentParser(description="Cost of running quantized models, against ONNX Runtime and OpenVINO.")
    ap.add_argument("onnxq_opt")
    ap.add_argument("models", nargs="+", metavar="MODEL[=DATA]")
    ap.add_argument("--kinds", type=lambda s: s.split(","), default=list(KINDS), help="of static,dynamic")
    ap.add_argument("--threads", type=lambda s: [int(x) for x in s.split(",")], default=[1, 2])
    ap.add_argument("--rounds", type=int, default=5)
    ap.add_argument("--runs", type=int, default=30)
    ap.add_argument("--samples", type=int, default=8, help="for calibration")
    ap.add_argument("--best", action="store_true", help="compare the fastest runs, not the median ones")
    ap.add_argument("--python", default=sys.executable,
                    help="an interpreter with onnx, onnxruntime and, if that is to be compared, openvino (default: this one)")
    ap.add_argument("--json", metavar="FILE")
    args = ap.parse_args()
    has_openvino = not subprocess.run([args.python, "-c", "import openvino"], capture_output=True).returncode
    latencies, costs, failed, report = [], [], [], {}
    for pair in args.models:
        model, _, data = pair.partition("=")
        name = os.path.splitext(os.path.basename(model))[0]
        with tempfile.TemporaryDirectory() as folder:
            bench = Bench(args, model, data and os.path.abspath(data), folder)
            if not has_openvino:
                for tools in bench.variants.values():
                    tools.pop("openvino", None)
            report[name] = {}
            for threads in args.threads:
                latencies += latency_rows(name, bench, threads, report[name])
            costs += cost_rows(name, bench, report[name])
            failed += ["%s: %s" % (name, e) for e in bench.failed]
        print(name, file=sys.stderr, flush=True)
    table(["model", "kind", "threads", "ours ms", "against", "ms", "ratio"], latencies)
    print()
    table(["model", "kind", "against", "peak MiB", "theirs", "ratio", "first ms", "theirs", "ratio", "session", "ratio"],
          costs)
    for e in dict.fromkeys(failed):
        print("failed: %s" % e[:300])
    if args.json:
        with open(args.json, "w") as f:
            json.dump(report, f, indent=1)


if __name__ == "__main__":
    sys.exit(main())
