"""Runs one program and says what it cost. Imports nothing large, on purpose.

A child's peak memory is at least what its parent held when it was started, so the programs that
measure with this keep numpy and onnx out of their own process; the floor is then about 12 MiB.
"""
import os
import resource
import signal
import subprocess
import tempfile
import threading
import time


def run(argv, timeout=600, memory_gb=None):
    """Seconds on the clock and of all cores, peak memory; the error where it failed."""
    def limit():
        resource.setrlimit(resource.RLIMIT_AS, (int(memory_gb * 2**30),) * 2)

    with tempfile.TemporaryFile() as errors:
        start = time.perf_counter()
        child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors,
                                 preexec_fn=limit if memory_gb else None)
        late = threading.Timer(timeout, os.kill, (child.pid, signal.SIGKILL))
        late.start()
        _, status, usage = os.wait4(child.pid, 0)
        wall = time.perf_counter() - start
        late.cancel()
        child.returncode = os.waitstatus_to_exitcode(status)  # it has been waited for
        result = {"wall_s": wall, "cpu_s": usage.ru_utime + usage.ru_stime, "peak_mib": usage.ru_maxrss / 1024}
        if child.returncode:
            errors.seek(0)
            lines = errors.read().decode(errors="replace").strip().splitlines()
            killed = "no end after %d s" % timeout if wall >= timeout else "exit status %d" % child.returncode
            result["error"] = "%s: %s" % (killed, lines[-1][:200]) if lines else killed
    return result


def ours(program, model, out, *options):
    return [program, model, "--passes", "preprocess,quantize,fuse", "-o", out, "--quiet", *options]


REFERENCE = """
import logging, os, sys
logging.disable(logging.CRITICAL)
flow, source, out, external = sys.argv[1:5]
import onnxruntime
onnxruntime.set_default_logger_severity(4)
from onnxruntime.quantization import quantize_dynamic
os.chdir(os.path.dirname(out))
external = external == "external"
if flow != "original":
    from onnxruntime.quantization.shape_inference import quant_pre_process
    kept = {"save_as_external_data": True, "all_tensors_to_one_file": True} if external else {}
    quant_pre_process(source, out + ".pre.onnx", skip_symbolic_shape=flow == "no-symbolic", **kept)
    source = out + ".pre.onnx"
quantize_dynamic(source, out, use_external_data_format=external)
"""

# What the reference tool is tried with, in this order.
FLOWS = ("preprocessed", "no-symbolic", "original")


def reference(python, flow, model, out, external=False):
    argv = [python, "-B", "-c", REFERENCE, flow, os.path.abspath(model), os.path.abspath(out)]
    return argv + ["external" if external else "one-file"]


def table(head, rows):
    """Left-aligned columns, numbers as they were formatted."""
    widths = [max(len(str(row[i])) for row in [head, *rows]) for i in range(len(head))]
    for row in [head, *rows]:
        print("  ".join(str(cell).ljust(width) for cell, width in zip(row, widths)).rstrip(), flush=True)
