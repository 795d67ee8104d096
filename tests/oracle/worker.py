"""The oracle's Python side: answers requests about ONNX models over a pair of pipes.

A message, in either direction, is a little-endian u32 length, a JSON object of that many bytes,
and the byte strings ("blobs") whose lengths the object lists under "blobs". A request names what
to do under "do"; the answer holds "ok", or "error" with the exception as text. Tensors are
{"name", "dtype" (TensorProto.DataType), "dims", "blob" (index) or "strings"}; models are
{"path"} or {"blob"}. The process ends when its input does.

Standard output carries the messages, so everything else that is printed, by Python or by native
libraries, is sent to standard error.
"""
import json
import logging
import os
import struct
import sys
import tempfile

import numpy as np
import onnx
import onnx.checker
import onnx.parser
import onnx.printer
import onnx.shape_inference
import onnxruntime as ort

import structure

LEVELS = {
    "disabled": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
}


class Blobs:
    """The byte strings of one message, and what is made of them."""

    def __init__(self, parts=()):
        self.parts = list(parts)

    def put(self, data):
        self.parts.append(data)
        return len(self.parts) - 1

    def tensor(self, t):
        """The (name, array) of a tensor in a request."""
        dims = t["dims"]
        if "strings" in t:
            return t["name"], np.array(t["strings"], dtype=object).reshape(dims)
        dtype = onnx.helper.tensor_dtype_to_np_dtype(t["dtype"])
        return t["name"], np.frombuffer(self.parts[t["blob"]], dtype).reshape(dims)

    def put_tensor(self, name, value):
        """The form in an answer of an array, whose bytes become a blob."""
        if not isinstance(value, np.ndarray):
            raise TypeError("'%s' is not a tensor but %s" % (name, type(value).__name__))
        head = {"name": name, "dims": list(value.shape)}
        if value.dtype.kind in "OUS":
            texts = [v.decode() if isinstance(v, bytes) else str(v) for v in value.reshape(-1)]
            return {**head, "dtype": onnx.TensorProto.STRING, "strings": texts}
        code = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
        return {**head, "dtype": code, "blob": self.put(np.ascontiguousarray(value).tobytes())}

    def source(self, model):
        """What a session or the checker takes: a path, or the serialized model."""
        return model["path"] if "path" in model else self.parts[model["blob"]]

    def proto(self, model):
        return onnx.load(model["path"]) if "path" in model else onnx.load_from_string(self.parts[model["blob"]])


def session(source, level):
    options = ort.SessionOptions()
    options.graph_optimization_level = LEVELS[level]
    options.log_severity_level = 4
    # Sums in one order, and one core: test processes run beside each other.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def signature(values):
    return [{"name": v.name, "type": v.type, "shape": v.shape} for v in values]


def check(ask, blobs, out):
    onnx.checker.check_model(blobs.source(ask["model"]), full_check=True)


def load(ask, blobs, out):
    loaded = session(blobs.source(ask["model"]), ask["level"])
    return {"inputs": signature(loaded.get_inputs()), "outputs": signature(loaded.get_outputs())}


def run(ask, blobs, out):
    loaded = session(blobs.source(ask["model"]), ask["level"])
    names = [v.name for v in loaded.get_outputs()]
    values = loaded.run(names, dict(map(blobs.tensor, ask["inputs"])))
    return {"tensors": [out.put_tensor(n, np.asarray(v) if np.isscalar(v) else v) for n, v in zip(names, values)]}


def infer_shapes(ask, blobs, out):
    model = onnx.shape_inference.infer_shapes(
        blobs.proto(ask["model"]), check_type=True, strict_mode=ask["strict"], data_prop=True)
    return {"model": out.put(model.SerializeToString(deterministic=True))}


def convert_version(ask, blobs, out):
    import onnx.version_converter
    model = onnx.version_converter.convert_version(blobs.proto(ask["model"]), ask["target"])
    return {"model": out.put(model.SerializeToString(deterministic=True))}


def difference(ask, blobs, out):
    return {"difference": structure.difference(blobs.proto(ask["a"]), blobs.proto(ask["b"]), frozenset(ask["ignore"]))}


def parse_text(ask, blobs, out):
    return {"model": out.put(onnx.parser.parse_model(ask["text"]).SerializeToString(deterministic=True))}


def print_text(ask, blobs, out):
    return {"text": onnx.printer.to_text(blobs.proto(ask["model"]))}


def read_npz(ask, blobs, out):
    with np.load(ask["path"], allow_pickle=False) as z:
        return {"tensors": [out.put_tensor(k, z[k]) for k in z.files]}


def write_npz(ask, blobs, out):
    np.savez(ask["path"], **dict(map(blobs.tensor, ask["tensors"])))


def preprocess(ask, blobs, out):
    from onnxruntime.quantization.shape_inference import quant_pre_process
    quant_pre_process(ask["input"], ask["output"], **ask["options"])


def quant_types(options):
    """The options with the names of quantization types made into the types."""
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType
    kinds = {"weight_type": QuantType, "activation_type": QuantType,
             "quant_format": QuantFormat, "calibrate_method": CalibrationMethod}
    return {k: kinds[k][v] if k in kinds else v for k, v in options.items()}


def quantize_dynamic(ask, blobs, out):
    from onnxruntime import quantization
    quantization.quantize_dynamic(ask["input"], ask["output"], **quant_types(ask["options"]))


def reader(ask, blobs):
    """The samples of a request, as the calibrators take them."""
    from onnxruntime import quantization
    samples = iter([dict(map(blobs.tensor, sample)) for sample in ask["samples"]])

    class Reader(quantization.CalibrationDataReader):
        def get_next(self):
            return next(samples, None)

    return Reader()


def quantize_static(ask, blobs, out):
    from onnxruntime import quantization
    quantization.quantize_static(ask["input"], ask["output"], reader(ask, blobs), **quant_types(ask["options"]))


def calibrate(ask, blobs, out):
    """Writes the calibration cache that quantize_static would, with options that it does not have."""
    from onnxruntime.quantization import calibrate, registry
    options = quant_types(ask["options"])
    calibrator = calibrate.create_calibrator(
        ask["input"], sorted({*registry.QLinearOpsRegistry, *registry.QDQRegistry}),
        calibrate_method=options.pop("calibrate_method"), extra_options=options)
    calibrator.collect_data(reader(ask, blobs))
    calibrate.save_tensors_data(calibrator.compute_data(), ask["output"])


def versions(ask, blobs, out):
    return {"python": sys.version.split()[0], "onnx": onnx.__version__,
            "onnxruntime": ort.__version__, "numpy": np.__version__}


REQUESTS = {f.__name__: f for f in (
    check, load, run, infer_shapes, convert_version, difference, parse_text, print_text, read_npz,
    write_npz, preprocess, quantize_dynamic, quantize_static, calibrate, versions)}


def read(pipe, size):
    data = pipe.read(size)
    if len(data) != size:
        sys.exit(0 if not data else "the request ended early")
    return data


def answer(ask, blobs):
    out = Blobs()
    try:
        return {"ok": REQUESTS[ask["do"]](ask, blobs, out) or {}}, out
    except Exception as e:  # whatever it is, it is the answer
        return {"error": "%s: %s" % (type(e).__name__, e)}, Blobs()


def main():
    requests = sys.stdin.buffer
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    logging.disable(logging.CRITICAL)
    ort.set_default_logger_severity(4)
    # Some of the reference tools leave files in the current directory.
    with tempfile.TemporaryDirectory(prefix="onnxq-oracle-") as scratch:
        os.chdir(scratch)
        while True:
            ask = json.loads(read(requests, struct.unpack("<I", read(requests, 4))[0]))
            reply, out = answer(ask, Blobs(read(requests, n) for n in ask["blobs"]))
            reply["blobs"] = [len(p) for p in out.parts]
            head = json.dumps(reply).encode()
            answers.write(struct.pack("<I", len(head)) + head)
            for part in out.parts:
                answers.write(part)
            answers.flush()


if __name__ == "__main__":
    main()
