"""Writes the node tests of the ONNX package, which collects them but ships no files: one folder each.

    python node_tests.py FOLDER

A folder has `model.onnx`, `tol` (relative and absolute tolerance), and the values of inputs and
outputs by position: `input_<i>.tensor.pb`, a `TensorProto`; for a sequence an empty
`input_<i>.seq` and its elements `input_<i>.seq.<k>.pb`; `input_<i>.none` for an optional value
that is absent, and an empty `input_<i>.optional` beside one that is there.
"""
import os
import sys
import warnings

import numpy as np
import onnx
from onnx import numpy_helper


def write(path, message):
    with open(path, "wb") as f:
        f.write(message.SerializeToString(deterministic=True))


def mark(path):
    open(path, "wb").close()


def tensor(value, name):
    if isinstance(value, onnx.TensorProto):
        proto = onnx.TensorProto()
        proto.CopyFrom(value)
        proto.name = name
        return proto
    return numpy_helper.from_array(np.asarray(value), name)


def put(value, declared, path):
    """Writes a value; `path` is without its ending."""
    if declared.type.HasField("optional_type"):
        if value is None:
            return mark(path + ".none")
        mark(path + ".optional")
    if value is None:
        return mark(path + ".none")
    if not isinstance(value, list):
        return write(path + ".tensor.pb", tensor(value, declared.name))
    mark(path + ".seq")
    for k, element in enumerate(value):
        write("%s.seq.%d.pb" % (path, k), tensor(element, declared.name))


def main(root):
    warnings.simplefilter("ignore")
    from onnx.backend.test.case.node import collect_testcases
    for case in collect_testcases(None):
        folder = os.path.join(root, case.name)
        os.makedirs(folder)
        write(os.path.join(folder, "model.onnx"), case.model)
        with open(os.path.join(folder, "tol"), "w") as f:
            f.write("%r %r" % (case.rtol, case.atol))
        inputs, outputs = case.data_sets[0]
        graph = case.model.graph
        for kind, values, ports in (("input", inputs, graph.input), ("output", outputs, graph.output)):
            for i, (value, port) in enumerate(zip(values, ports)):
                put(value, port, os.path.join(folder, "%s_%d" % (kind, i)))


if __name__ == "__main__":
    main(sys.argv[1])
