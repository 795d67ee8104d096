#!/usr/bin/env python3
"""What static quantization by the ONNX Runtime tool makes of the model zoo, measured.

    reference_static.py --zoo DIR --models DIR -o reference_static.json

The arguments, flows and figures are those of `reference.py`; the tool runs with its defaults
(int8 activations and weights, one scale per tensor, MinMax) in both of its formats. It calibrates
on the zoo's calibration sets, and for models without one on their stored inputs. Models without
either are not recorded: their weights are constants, and so are their outputs.
"""
import argparse
import json
import logging
import os
import sys
import tempfile

import onnx
import onnxruntime as ort
import numpy as np
import platform
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from reference import FLOWS, Zoo, machine, shorten, summary

# The calibration set of a model, how many of its rows make a sample, and how it becomes inputs.
FACES = ("faces_320x240.npz", 1, lambda z: {"input": (z["rgb"].astype(np.float32).transpose(0, 3, 1, 2) - 127) / 128})
SETS = {"digits": ("digits_calib.npz", 16, None), "digits_cnn": ("digits_calib.npz", 16, None),
        "tabular_mlp": ("tabular_mlp_calib.npz", 16, None), "minilm": ("minilm_text.npz", 8, None),
        "ultraface": FACES, "ultraface_slim_320": FACES}


class Samples(CalibrationDataReader):
    """The samples of a model, one after the other."""

    def __init__(self, zoo, name):
        folder = os.path.join(zoo.root, "data")
        if name == "digits":
            folder = os.path.dirname(zoo.paths[name])
        if name in SETS:
            file, size, make = SETS[name]
            with np.load(os.path.join(folder, file)) as z:
                data = make(z) if make else {k: z[k] for k in z.files}
            wanted = [i.name for i in onnx.load(zoo.paths[name]).graph.input if i.name in data]
            rows = len(data[wanted[0]])
            self.samples = iter([{k: data[k][at:at + size] for k in wanted} for at in range(0, rows, size)])
        else:
            inputs, _ = zoo.io(name)
            self.samples = iter([inputs] if inputs is not None else [])

    def get_next(self):
        return next(self.samples, None)


def flow(zoo, name, options, form, scratch):
    """One flow of the tool on one model: its figures, or the step that failed and why."""
    source, out = zoo.paths[name], os.path.join(scratch, name + ".onnx")
    step = "preprocess"
    try:
        if options is not None:
            source = os.path.join(scratch, name + ".pre.onnx")
            quant_pre_process(zoo.paths[name], source, **options)
        step = "quantize"
        quantize_static(source, out, Samples(zoo, name), quant_format=QuantFormat[form])
        step = "run"
        return zoo.evaluate(name, out)
    except Exception as e:  # a failure is a result
        return {"failed": step, "error": shorten(e)}


def record(zoo):
    """The figures of the first flow that works in each format; of all where none does."""
    models = {}
    for name in zoo.paths:
        if zoo.io(name)[0] is None:
            continue
        models[name] = {}
        for form in ("QDQ", "QOperator"):
            tried = {}
            for label, options in FLOWS.items():
                with tempfile.TemporaryDirectory() as scratch:
                    tried[label] = flow(zoo, name, options, form, scratch)
                if "error" not in tried[label]:
                    break
            best = next((f for f, r in tried.items() if "error" not in r), None)
            models[name][form] = {"flows": tried, "best": best}
            print("%-24s %-10s %s" % (name, form, "  ".join("%s %s" % (f, summary(r)) for f, r in tried.items())), flush=True)
    return models


def main():
    ap = argparse.ArgumentParser(description="Measure the reference tool's static quantization of the model zoo.")
    ap.add_argument("--zoo", required=True)
    ap.add_argument("--models", required=True)
    ap.add_argument("--only", help="names, separated by commas")
    ap.add_argument("-o", "--output")
    args = ap.parse_args()
    logging.disable(logging.CRITICAL)
    ort.set_default_logger_severity(4)
    zoo = Zoo(os.path.abspath(args.zoo), os.path.abspath(args.models), args.only and args.only.split(","))
    output = args.output and os.path.abspath(args.output)
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)  # the tool leaves files in the current directory
        models = record(zoo)
        os.chdir("/")
    result = {"versions": {"python": platform.python_version(), "onnx": onnx.__version__,
                           "onnxruntime": ort.__version__, "numpy": np.__version__},
              "machine": machine(), "models": models}
    if output:
        with open(output, "w") as f:
            json.dump(result, f, indent=1)
            f.write("\n")


if __name__ == "__main__":
    sys.exit(main())
