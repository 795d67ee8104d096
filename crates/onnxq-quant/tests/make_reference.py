"""Writes reference.json: what onnxruntime.quantization computes, for reference.rs to compare.

    python make_reference.py        # onnxruntime 1.31.1, onnx 1.23.2, numpy 2.4.6

Floats and codes are stored as the hexadecimal digits of their bytes, so that equality is that
of bits. Scales of 4-bit codes and the codes themselves are in the form that files hold.
"""

import json
import logging
import pathlib
import tempfile
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto as T
from onnx import helper, numpy_helper
from onnxruntime.quantization import quant_utils as qu
from onnxruntime.quantization.base_quantizer import BaseQuantizer
from onnxruntime.quantization.onnx_quantizer import ONNXQuantizer
from onnxruntime.quantization.quantize import quantize_dynamic

logging.disable(logging.CRITICAL)
TYPES = {t: getattr(T, t.upper()) for t in "int8 uint8 int16 uint16 int4 uint4".split()}
FLOATS = {"float": np.float32, "float16": np.float16}


def bits(array):
    return np.ascontiguousarray(array).tobytes().hex()


def ints(array):
    return np.asarray(array).astype(np.int64).reshape(-1).tolist()


def params():
    f32 = [
        (-1.5, 3.0), (0.5, 2.0), (-4.0, -1.0), (0.0, 0.0), (0.0, 1e-37), (0.0, 1e-35),
        (-0.5, 254.5), (-1.5, 253.5), (-2.5, 252.5), (-3.0e38, 3.0e38), (-3.4e38, 1.0),
        (-1e-45, 1e-45), (-1e-38, 3e-36), (-0.1, 0.3), (-1.0, 1.0), (-127.0, 128.0),
        (-6.0, 0.0), (-0.0, 5.9604645e-08), (-2.1179, 2.64),
    ]  # fmt: skip
    rng = np.random.default_rng(1)
    f32 += [(-a, b) for a, b in np.exp(rng.uniform(-12, 12, (12, 2)))]
    f16 = [
        (-1.0, 2.0), (0.0, 0.0), (0.0, 6e-8), (0.0, 0.01), (-0.02, 0.0), (-65504.0, 65504.0),
        (-3.0, 60000.0), (-0.0155, 0.0), (-1.5, 253.5), (-6e-5, 6e-5),
    ]  # fmt: skip
    f16 += [(-a, b) for a, b in np.exp(rng.uniform(-4, 6, (8, 2)))]
    out, ranges = [], {}
    for float_name, pairs in [("float", f32), ("float16", f16)]:
        dtype = FLOATS[float_name]
        lo, hi = np.array(pairs, dtype=dtype).T
        ranges[float_name] = {"lo": bits(lo), "hi": bits(hi)}
        for least in [None, 1e-4, 0.75]:
            for name, qtype in TYPES.items():
                for symmetric in [False, True]:
                    for reduce_range in [False, True]:
                        qmin, qmax = qu.get_qmin_qmax_for_qType(qtype, reduce_range, symmetric)
                        found = [
                            qu.compute_scale_zp(a, b, qmin, qmax, symmetric, least)
                            for a, b in zip(lo, hi)
                        ]
                        out.append({
                            "float": float_name, "least": least,
                            "type": name, "symmetric": symmetric, "reduce": reduce_range,
                            "scale": bits(np.array([s for _, s in found], dtype=dtype)),
                            "zero": [int(z) for z, _ in found],
                        })  # fmt: skip
    return ranges, out


def restricted():
    out = []
    pairs = [(-1.0, 2.0), (0.5, 2.0), (-3.0, -1.0), (0.0, 0.0), (-1e-3, 7.5), (-8.0, 7.9)]
    lo, hi = np.array(pairs, dtype=np.float32).T
    for least in [None, 1e-4, 3.3]:
        for reduce_range in [False, True]:
            qmin, qmax = qu.get_qmin_qmax_for_qType(T.UINT8, reduce_range, False)
            found = [
                qu.snap_zero_point_to_uint8(a, b, int(qmin), int(qmax), least)
                for a, b in zip(lo, hi)
            ]
            scale = bits(np.array([s for _, s in found], dtype=np.float32))
            zero = [int(z) for z, _ in found]
            out.append({
                "lo": bits(lo), "hi": bits(hi), "least": least, "reduce": reduce_range,
                "scale": scale, "zero": zero,
            })  # fmt: skip
    return out


def weight_arrays():
    rng = np.random.default_rng(2)
    normal = rng.standard_normal((3, 2, 5)).astype(np.float32)
    mixed = (rng.standard_normal((7, 9)) * np.exp(rng.uniform(-6, 3, (7, 1)))).astype(np.float32)
    mixed[2] = 0.0
    mixed[4] = np.abs(mixed[4])
    mixed[:, 3] = -np.abs(mixed[:, 3])
    mixed[5] = np.float32(1e-39)
    ties = (np.arange(-12, 13) / 2.0).astype(np.float32).reshape(5, 5)
    example = np.array([-1, -0.5, 0, 0.25, 0.7, 1.27], dtype=np.float32)
    halves = rng.standard_normal((4, 6)).astype(np.float16) * np.float16(0.3)
    halves[1] = np.float16(3e-7)
    large = np.array([[-3e38, 3e38, 1.0], [1e-3, -2e-3, 5e-4]], dtype=np.float32)
    return [normal, mixed, ties, example, halves, large]


def codes(array, qtype, zero, scale, axis, block=0):
    """The bytes of quantized data, in the form of raw_data."""
    initializer = numpy_helper.from_array(array, "w")
    return qu.quantize_onnx_initializer(
        initializer, qtype, zero, scale, axis, None, block
    ).raw_data.hex()


def weights():
    arrays, out = weight_arrays(), []
    for index, array in enumerate(arrays):
        types = dict(TYPES)
        if array.dtype == np.float32 and index != 5:
            types["float8e4m3fn"] = T.FLOAT8E4M3FN
        for name, qtype in types.items():
            for symmetric in [False, True]:
                for reduce_range in [False, True]:
                    if qtype == T.FLOAT8E4M3FN and (reduce_range or not symmetric):
                        continue
                    for axis in [None, *range(array.ndim)]:
                        if axis is None:
                            groups = [array]
                        else:
                            groups = [array.take(i, axis) for i in range(array.shape[axis])]
                        if qtype == T.FLOAT8E4M3FN and any(np.std(g) < 1e-30 for g in groups):
                            continue  # the package divides by 0
                        found = [
                            qu.compute_data_quant_params(g.ravel(), qtype, symmetric, reduce_range)
                            for g in groups
                        ]
                        zero = np.asarray([z for z, _ in found])
                        scale = np.asarray([s for _, s in found])
                        if axis is None:
                            zero, scale = zero.reshape(()), scale.reshape(())
                        out.append([
                            index, name, symmetric, reduce_range, axis, None,
                            bits(scale), ints(zero), codes(array, qtype, zero, scale, axis),
                        ])  # fmt: skip
        if array.ndim != 2 or index == 5:
            continue  # the last overflows in blocks
        for name, qtype in TYPES.items():
            for symmetric in [False, True]:
                for axis in [0, 1]:
                    for block in [2, 4, 100]:
                        zero, scale = qu.compute_scale_zp_blocked(
                            array, qtype, axis, block, symmetric
                        )
                        out.append([
                            index, name, symmetric, False, axis, block, bits(scale), ints(zero),
                            codes(array, qtype, zero, scale, axis, block),
                        ])  # fmt: skip
    described = [
        {"float": "float" if a.dtype == np.float32 else "float16", "dims": a.shape, "data": bits(a)}
        for a in arrays
    ]
    return described, out


class Model:
    """As much of a model as the package needs to quantize a bias."""

    def __init__(self, initializers):
        self.initializers = list(initializers)

    def initializer(self):
        return self.initializers

    def initializer_extend(self, more):
        self.initializers.extend(more)


def biases():
    rng = np.random.default_rng(3)
    out = []
    for dtype, name in [(np.float32, "float"), (np.float16, "float16")]:
        for per_channel in [False, True]:
            for magnitude in [1.0, 300.0]:
                for low in [1e-3, 1e-6]:
                    bias = (rng.standard_normal(5) * magnitude).astype(dtype)
                    input_scale = np.array(0.0117647061, dtype=dtype)
                    if name == "float16":
                        low, weight_low = max(low, 1e-2), 1e-2
                    else:
                        weight_low = low * 1e-4 if per_channel else low
                    shape = (5,) if per_channel else ()
                    weight_scale = np.asarray(rng.uniform(weight_low, 2 * low, shape), dtype=dtype)
                    if per_channel and name == "float":
                        weight_scale[1] = 1e-11
                    quantizer = SimpleNamespace(
                        model=Model([numpy_helper.from_array(bias, "b")]), weight_qType=T.INT8
                    )
                    BaseQuantizer.quantize_bias_static_impl(
                        quantizer, "b", input_scale, weight_scale
                    )
                    data, scale, zero = quantizer.model.initializers[1:4]
                    data = {i.name: i for i in (data, scale, zero)}
                    adjusted = None
                    if name == "float":
                        changed, new = ONNXQuantizer._adjust_weight_scale_for_int32_bias(
                            object.__new__(ONNXQuantizer), input_scale, weight_scale.copy(), "w",
                            numpy_helper.from_array(bias, "b"), per_channel,
                        )  # fmt: skip
                        adjusted = bits(new) if changed else None
                    out.append({
                        "float": name, "bias": bits(bias), "input_scale": bits(input_scale),
                        "weight_scale": bits(weight_scale), "per_channel": per_channel,
                        "scale": bits(numpy_helper.to_array(data["b_quantized_scale"])),
                        "scale_dims": list(data["b_quantized_scale"].dims),
                        "zero_dims": list(data["b_quantized_zero_point"].dims),
                        "data": bits(numpy_helper.to_array(data["b_quantized"])),
                        "adjusted": adjusted,
                    })  # fmt: skip
    return out


def lstms():
    rng = np.random.default_rng(4)
    directions, hidden, inputs = 2, 2, 3
    w = rng.standard_normal((directions, 4 * hidden, inputs)).astype(np.float32)
    r = rng.standard_normal((directions, 4 * hidden, hidden)).astype(np.float32)
    node = helper.make_node(
        "LSTM", ["x", "w", "r"], ["y"], hidden_size=hidden, direction="bidirectional"
    )
    graph = helper.make_graph(
        [node], "g",
        [helper.make_tensor_value_info("x", T.FLOAT, [1, 1, inputs])],
        [helper.make_tensor_value_info("y", T.FLOAT, [1, directions, 1, hidden])],
        [numpy_helper.from_array(w, "w"), numpy_helper.from_array(r, "r")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    out = []
    for per_channel in [False, True]:
        for reduce_range in [False, True]:
            with tempfile.TemporaryDirectory() as folder:
                path = pathlib.Path(folder, "m.onnx")
                onnx.save(model, path)
                quantize_dynamic(path, path, per_channel=per_channel, reduce_range=reduce_range)
                found = {i.name: i for i in onnx.load(path).graph.initializer}
            for name, array in [("w", w), ("r", r)]:
                data, scale, zero = (
                    numpy_helper.to_array(found[f"{name}_{part}"])
                    for part in ["quantized", "scale", "zero_point"]
                )
                out.append({
                    "per_channel": per_channel, "reduce": reduce_range,
                    "dims": array.shape, "weight": bits(array),
                    "data_dims": data.shape, "data": bits(data),
                    "scale_dims": scale.shape, "scale": bits(scale), "zero": ints(zero),
                })  # fmt: skip
    return out


def dynamic():
    node = helper.make_node("DynamicQuantizeLinear", ["x"], ["y", "s", "z"])
    graph = helper.make_graph(
        [node], "g",
        [helper.make_tensor_value_info("x", T.FLOAT, ["N"])],
        [helper.make_tensor_value_info("y", T.UINT8, ["N"]),
         helper.make_tensor_value_info("s", T.FLOAT, []),
         helper.make_tensor_value_info("z", T.UINT8, [])],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(5)
    vectors = [[0.3, -0.7], [1.0, 2.0], [0.0, 0.0], [-3.0], [5e-30, -1e-31], [-0.5, 254.5]]
    vectors += [rng.standard_normal(17) * s + t for s, t in [(1, 0), (1e3, 200), (1e-3, 0.5)]]
    out = []
    for vector in vectors:
        x = np.array(vector, dtype=np.float32)
        y, scale, zero = session.run(None, {"x": x})
        out.append({"x": bits(x), "y": bits(y), "scale": bits(scale), "zero": int(zero)})
    return out


def main():
    ranges, param_cases = params()
    arrays, weight_cases = weights()
    versions = f"onnxruntime {ort.__version__}, onnx {onnx.__version__}, numpy {np.__version__}"
    fixture = {
        "made_by": versions, "ranges": ranges, "params": param_cases,
        "restricted": restricted(), "arrays": arrays, "weights": weight_cases,
        "biases": biases(), "lstms": lstms(), "dynamic": dynamic(),
    }  # fmt: skip
    sections = []
    for key, value in fixture.items():
        rows = value if isinstance(value, list) else [value]
        body = ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows)
        sections.append(f'"{key}":' + (f"[\n{body}]" if isinstance(value, list) else body))
    path = pathlib.Path(__file__).with_name("reference.json")
    path.write_text("{" + ",\n".join(sections) + "}\n")


if __name__ == "__main__":
    main()
