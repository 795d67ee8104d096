#!/usr/bin/env python3
"""What static quantization by the ONNX Runtime tool makes of the model zoo, measured.

    reference_static.py --zoo DIR --models DIR -o reference_static.json

The arguments, flows and figures are those of `reference.py`; the tool runs with its defaults
(int8 activations and weights, one scale per tensor, MinMax) in both of its formats. It calibrates
on the zoo's calibration sets, and for models without one on their stored inputs. Models without
either are not recorded: their weights are constants, and so are their outputs.
"""
import os
import tempfile

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

from reference import FLOWS, arguments, best, figures, flow, summary

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


def record(zoo):
    """The figures of the first flow that works in each format; of all where none does."""
    models = {}
    for name in zoo.paths:
        if zoo.io(name)[0] is None:
            continue
        models[name] = {}
        for form in ("QDQ", "QOperator"):
            def quantize(source, out):
                quantize_static(source, out, Samples(zoo, name), quant_format=QuantFormat[form])

            tried = {}
            for label, options in FLOWS.items():
                with tempfile.TemporaryDirectory() as scratch:
                    tried[label] = flow(zoo, name, options, scratch, quantize)
                if "error" not in tried[label]:
                    break
            models[name][form] = {"flows": tried, "best": best(tried)}
            print("%-24s %-10s %s" % (name, form, "  ".join("%s %s" % (f, summary(r)) for f, r in tried.items())), flush=True)
    return models


if __name__ == "__main__":
    description = "Measure the reference tool's static quantization of the model zoo."
    figures(arguments(description).parse_args(), record)
