#!/usr/bin/env python3
"""Quantizes a model over 2 GiB with onnxq-opt and with the ONNX Runtime tool: time and peak memory.

    target/oracle-venv/bin/python tests/bench/big_model.py target/release/onnxq-opt ../shared/zoo/big_mlp.py

The second argument is the model zoo's script that writes the model, a 2.5 GB MLP with external
data (`--gigabytes` for another size). The files need about three times that under `--work`.
`--memory-gb` limits the address space of the reference tool, which may need several times the
model's size.
"""
import argparse
import os
import subprocess
import sys
import tempfile

from process import FLOWS, ours, reference, run, table


def size(folder):
    """Bytes of the output and its external data, not of what the reference tool leaves beside them."""
    files = [os.path.join(folder, f) for f in ("out.onnx", "out.onnx.data")]
    return sum(os.path.getsize(f) for f in files if os.path.exists(f))


def main():
    ap = argparse.ArgumentParser(description="Quantize a model over 2 GiB.")
    ap.add_argument("onnxq_opt")
    ap.add_argument("script", help="big_mlp.py of the model zoo")
    ap.add_argument("--gigabytes", type=float, default=2.5)
    ap.add_argument("--work", help="a folder for the files (default: the system's)")
    ap.add_argument("--memory-gb", type=float)
    ap.add_argument("--timeout", type=float, default=1800)
    ap.add_argument("--skip-reference", action="store_true")
    args = ap.parse_args()
    steps = {"onnxq-opt": lambda m, o: ours(args.onnxq_opt, m, o)}
    for flow in () if args.skip_reference else FLOWS:
        steps["ONNX Runtime tool, " + flow] = lambda m, o, flow=flow: reference(sys.executable, flow, m, o, True)
    rows, failed = [], False
    with tempfile.TemporaryDirectory(dir=args.work) as folder:
        model = os.path.join(folder, "big_mlp.onnx")
        subprocess.run([sys.executable, "-B", args.script, "-o", model, "--gigabytes", str(args.gigabytes)], check=True)
        for name, argv in steps.items():
            mine = name == "onnxq-opt"
            with tempfile.TemporaryDirectory(dir=args.work) as made:
                result = run(argv(model, os.path.join(made, "out.onnx")), args.timeout,
                             None if mine else args.memory_gb)
                numbers = ["%.1f" % result["wall_s"], "%.1f" % result["cpu_s"], "%.0f" % result["peak_mib"]]
                rows.append([name, *numbers, "%.0f" % (size(made) / 2**20), result.get("error", "ok")])
            failed |= mine and "error" in result
            print(name, file=sys.stderr, flush=True)
    table(["tool", "wall s", "cpu s", "peak MiB", "out MiB", "result"], rows)
    return failed


if __name__ == "__main__":
    sys.exit(main())
