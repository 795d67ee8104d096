"""Writes calibration.json: what the calibrators of onnxruntime.quantization make of data.

    python make_calibration.py      # onnxruntime 1.31.1, numpy 2.4.6

The data is computed, here and in calibration.rs, from the same generator with single IEEE
operations. Floats are stored as the hexadecimal digits of their bytes. `flatbuffers`, `text` and
`cache` are the files that the tool writes of its own ranges.
"""

import contextlib
import io
import json
import pathlib
import tempfile

import numpy as np
from onnxruntime.quantization import calibrate as c
from onnxruntime.quantization import quant_utils as qu

f32 = np.float32


def uniform(n, seed):
    state, out = seed, np.empty(n, dtype=f32)
    for i in range(n):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        out[i] = f32(state >> 40) / f32(8388608) - f32(1)
    return out


def data(kind, n, seed):
    u = uniform(n, seed)
    if kind == "uniform":
        return u
    if kind == "heavy":
        return u / (f32(1.001) - u * u)
    if kind == "one-sided":
        return np.maximum(u, f32(0)) * f32(5)
    if kind == "peaked":
        return u * u * u + f32(0.01)
    if kind == "offset":
        return u * f32(0.01) + f32(3)
    if kind == "negative":
        return u * u * f32(-4) - f32(0.5)
    if kind == "tiny":
        return u * u * u * f32(1e-30)
    if kind == "constant":
        return u * f32(0) + f32(0.1)
    if kind == "zero":
        return u * f32(0)
    raise KeyError(kind)


KINDS = "uniform heavy one-sided peaked offset negative tiny constant zero".split()
METHODS = [
    ("percentile", dict(symmetric=True, num_bins=2048, percentile=99.999)),
    ("percentile", dict(symmetric=True, num_bins=100, percentile=90.0)),
    ("percentile", dict(symmetric=False, num_bins=2048, percentile=99.99)),
    ("percentile", dict(symmetric=False, num_bins=77, percentile=50.0)),
    ("percentile", dict(symmetric=True, num_bins=2048, percentile=100.0)),
    ("percentile", dict(symmetric=False, num_bins=2048, percentile=100.0)),
    ("entropy", dict(num_bins=128, num_quantized_bins=128)),
    ("entropy", dict(num_bins=2048, num_quantized_bins=128)),
    ("entropy", dict(num_bins=301, num_quantized_bins=15)),
    ("distribution", dict(num_bins=2048)),
    ("distribution", dict(num_bins=512)),
]


def bits(*values):
    return np.array([f32(v) for v in values], dtype="<f4").tobytes().hex()


def collect(method, options, array):
    collector = c.HistogramCollector(
        method,
        options.get("symmetric", False),
        options["num_bins"],
        options.get("num_quantized_bins", 128),
        options.get("percentile", 99.999),
        "same",
    )
    with contextlib.redirect_stdout(io.StringIO()):
        collector.collect({"x": array})
        return collector.compute_collection_result()["x"]


def main():
    cases = []
    for seed, kind in enumerate(KINDS):
        for n in [4, 3000, 20000]:
            array = data(kind, n, seed)
            for method, options in METHODS:
                if n == 20000 and options["num_bins"] in (100, 77, 301, 512):
                    continue
                try:
                    found = collect(method, options, array)
                except ValueError as e:
                    # Too many bins for the range.
                    print(kind, n, method, options, e)
                    continue
                case = {"kind": kind, "n": n, "seed": seed, "method": method, **options}
                if method == "distribution":
                    case["range"] = bits(found.lowest, found.highest)
                    case["moments"] = bits(found.avg, found.std)
                else:
                    case["range"] = bits(found[0], found[1])
                cases.append(case)

    ranges = {"conv1": (-1.5, 3.0), "b": (0.1, 0.25), "a/long name é": (-2.0, -0.0625), "z": (1e-7, 1e22)}
    pair = lambda lo, hi: c.TensorData(lowest=np.array([lo], f32), highest=np.array([hi], f32))
    data_of = {k: pair(*v) for k, v in ranges.items()}
    with tempfile.TemporaryDirectory() as d:
        d = pathlib.Path(d)
        qu.write_calibration_table(data_of, dir=str(d))
        tensors = c.TensorsData(c.CalibrationMethod.MinMax, data_of)
        c.save_tensors_data(tensors, d / "cache.json")
        tables = {
            "ranges": [[k, bits(*v)] for k, v in ranges.items()],
            "flatbuffers": (d / "calibration.flatbuffers").read_bytes().hex(),
            "text": (d / "calibration.cache").read_text(),
            "cache": (d / "cache.json").read_text(),
        }
        entropy = collect("entropy", dict(num_bins=2048, num_quantized_bins=128), data("heavy", 500, 1))
        tensors = c.TensorsData(c.CalibrationMethod.Entropy, {"x": entropy})
        c.save_tensors_data(tensors, d / "cache.json")
        tables["entropy cache"] = (d / "cache.json").read_text()
        tables["entropy range"] = bits(*entropy[:2])
    text = json.dumps({"tables": tables, "cases": "CASES"}, indent=1, ensure_ascii=False)
    lines = ",\n  ".join(json.dumps(case) for case in cases)
    text = text.replace('"CASES"', f"[\n  {lines}\n ]")
    path = pathlib.Path(__file__).with_name("calibration.json")
    path.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
