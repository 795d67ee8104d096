"""Writes the types that other tools infer, from nothing but the types of the inputs.

    python shapes.py FOLDER MODELS

For every `MODELS/<name>.onnx` or `MODELS/<name>/model.onnx`: `FOLDER/<name>.onnx.json`, by
`onnx.shape_inference`, and `FOLDER/<name>.symbolic.json`, by ONNX Runtime's symbolic tool. Each
holds the types of the values of the main graph, or `{"error": ...}` where the tool gave up. A
dimension of an input without a name or a size (a negative one is none) is named `<input>_d<axis>`.
"""
import contextlib
import io
import json
import logging
import os
import sys
import tempfile
import warnings

import onnx


def models(root):
    for entry in sorted(os.listdir(root)):
        path = os.path.join(root, entry)
        if entry.endswith(".onnx"):
            yield entry[:-len(".onnx")], path
        elif os.path.isfile(os.path.join(path, "model.onnx")):
            yield entry, os.path.join(path, "model.onnx")


def clear(ty):
    """Removes shapes from a type."""
    kind = ty.WhichOneof("value")
    if kind in ("tensor_type", "sparse_tensor_type"):
        getattr(ty, kind).ClearField("shape")
    elif kind in ("sequence_type", "optional_type"):
        clear(getattr(ty, kind).elem_type)


def graphs(graph):
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in [attribute.g] * attribute.HasField("g") + list(attribute.graphs):
                yield from graphs(inner)


def strip(model):
    for graph in graphs(model.graph):
        del graph.value_info[:]
        for value in graph.output:
            clear(value.type)
    for value in model.graph.input:
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if not dim.WhichOneof("value") or dim.dim_value < 0:
                dim.dim_param = "%s_d%d" % (value.name, axis)


def described(ty):
    """A type as `{"tensor": code, "dims": [...]}`, `{"sequence": type}` or `{"optional": type}`."""
    kind = ty.WhichOneof("value")
    if kind in ("tensor_type", "sparse_tensor_type"):
        tensor, dims = getattr(ty, kind), None
        if tensor.HasField("shape"):
            dims = [{"dim_value": d.dim_value, "dim_param": d.dim_param}.get(d.WhichOneof("value"))
                    for d in tensor.shape.dim]
        return {"tensor": tensor.elem_type, "dims": dims}
    if kind in ("sequence_type", "optional_type"):
        return {kind[:-len("_type")]: described(getattr(ty, kind).elem_type)}
    return None


def types(model):
    values = list(model.graph.value_info) + list(model.graph.output)
    return {v.name: described(v.type) for v in values}


def by_onnx(model):
    return onnx.shape_inference.infer_shapes(model, strict_mode=False, data_prop=True)


def by_symbolic(model):
    from onnxruntime.tools.symbolic_shape_infer import SymbolicShapeInference
    inferred = SymbolicShapeInference.infer_shapes(model, 2**31 - 1, True, False, 0)
    if inferred is None:
        raise RuntimeError("no result")
    return inferred


def main(root, source):
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    root, source = os.path.abspath(root), os.path.abspath(source)
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)  # the symbolic tool leaves a file in the current directory
        write(root, source)
        os.chdir(root)


def write(root, source):
    for name, path in models(source):
        for tool, infer in (("onnx", by_onnx), ("symbolic", by_symbolic)):
            model = onnx.load(path)
            strip(model)
            try:
                with contextlib.redirect_stdout(io.StringIO()):
                    found = types(infer(model))
            except Exception as e:  # whatever it is, the tool gave up
                found = {"error": "%s: %s" % (type(e).__name__, (str(e).splitlines() or [""])[0])}
            with open(os.path.join(root, "%s.%s.json" % (name, tool)), "w") as f:
                json.dump(found, f, indent=0, sort_keys=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
