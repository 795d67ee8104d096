"""Writes the node tests of the ONNX package at every older opset at which one of their operators changed.

    python old_opsets.py FOLDER

A test is rewritten where the older schema asks for it: an operand that was an attribute becomes
one, an attribute that did not exist is left out where it has its default. What the checker then
accepts is written, as `<test>@<opset>/`:

- `model.onnx`, and `inputs`: for each of its inputs, which input of the test it is;
- `converted.onnx`, the model as `onnx.version_converter` brings it to the newest opset, where the
  checker accepts that; or `refused`, why there is none.
"""
import multiprocessing
import os
import sys
import warnings

import numpy as np
import onnx
from onnx import defs, helper, numpy_helper
from onnx.version_converter import convert_version

from node_tests import write

NEWEST = defs.onnx_opset_version()


def history():
    """The opsets at which each operator changed."""
    changes = {}
    for schema in defs.get_all_schemas_with_history():
        if schema.domain == "":
            changes.setdefault(schema.name, set()).add(schema.since_version)
    return changes


def graphs(graph):
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from graphs(attribute.g)


def schema_at(node, opset):
    try:
        schema = defs.get_schema(node.op_type, opset, "")
    except defs.SchemaError:
        return None
    return None if schema.deprecated else schema


def formals(schema, count):
    """The formal parameter of each of `count` operands."""
    listed = list(schema.inputs)
    variadic = listed and listed[-1].option == defs.OpSchema.FormalParameterOption.Variadic
    return (listed + [listed[-1]] * count if variadic else listed)[:count]


def attribute(schema_attribute, name, value):
    """The attribute that holds what the operand `value` holds."""
    kinds = defs.OpSchema.AttrType
    value = np.asarray(value)
    flat = value.reshape(-1).tolist()
    if schema_attribute.type in (kinds.INTS, kinds.FLOATS):
        kind = int if schema_attribute.type == kinds.INTS else float
        return helper.make_attribute(name, [kind(v) for v in flat],
                                     attr_type=int(schema_attribute.type.value))
    if schema_attribute.type in (kinds.INT, kinds.FLOAT) and len(flat) == 1:
        return helper.make_attribute(name, (int if schema_attribute.type == kinds.INT else float)(flat[0]))
    return None


def operands_to_attributes(node, newer, older, values):
    """Turns operands that the older schema knows as attributes into these."""
    given = {a.name for a in node.attribute}
    names = {name.lower(): name for name in older.attributes}
    operands = {f.name.lower() for f in older.inputs}
    keep = []
    for name, formal in zip(node.input, formals(newer, len(node.input))):
        key = names.get(formal.name.lower())
        if formal.name.lower() in operands or key is None or key in given:
            keep.append(name)
        elif name:
            if name not in values:
                return False
            made = attribute(older.attributes[key], key, values[name])
            if made is None:
                return False
            node.attribute.append(made)
    while keep and not keep[-1]:
        keep.pop()
    del node.input[:]
    node.input.extend(keep)
    return True


def default_attributes_away(node, newer, older):
    for a in list(node.attribute):
        if a.name not in older.attributes and a.name in newer.attributes:
            default = newer.attributes[a.name].default_value
            if default.name and helper.get_attribute_value(a) == helper.get_attribute_value(default):
                node.attribute.remove(a)


def at(model, opset, values):
    """The model written at an older opset, or None."""
    own = next(o.version for o in model.opset_import if o.domain == "")
    old = onnx.ModelProto()
    old.CopyFrom(model)
    for o in old.opset_import:
        if o.domain == "":
            o.version = opset
    for graph in graphs(old.graph):
        for node in graph.node:
            if node.domain:
                continue
            newer, older = schema_at(node, own), schema_at(node, opset)
            if newer is None or older is None:
                return None
            if newer.since_version != older.since_version:
                default_attributes_away(node, newer, older)
                if not operands_to_attributes(node, newer, older, values):
                    return None
    used = {name for graph in graphs(old.graph) for node in graph.node for name in node.input}
    kept = [v for v in old.graph.input if v.name in used]
    if used:
        del old.graph.input[:]
        old.graph.input.extend(kept)
    # From version 3 of the format to 4, a constant need not be an input.
    table = {row[2]: row[1] for row in reversed(helper.VERSION_TABLE)}
    old.ir_version = max(table.get(opset, 3), 4 if old.graph.initializer else 3)
    try:
        onnx.checker.check_model(old, full_check=True)
    except Exception:
        return None
    return old


def converted(old):
    """What the converter makes of it, and why not."""
    try:
        new = convert_version(old, NEWEST)
    except Exception as e:
        return None, "refused: %s" % str(e).strip().splitlines()[0]
    try:
        onnx.checker.check_model(new, full_check=True)
    except Exception as e:
        return None, "invalid: %s" % str(e).strip().splitlines()[0]
    return new, None


def collected():
    warnings.simplefilter("ignore")
    from onnx.backend.test.case.node import collect_testcases
    return collect_testcases(None)


def convert_all(root, names):
    """Runs in a process of its own: some models end it."""
    for name in names:
        folder = os.path.join(root, name)
        new, why = converted(onnx.load(os.path.join(folder, "model.onnx")))
        if new is not None:
            write(os.path.join(folder, "converted.onnx"), new)
        else:
            with open(os.path.join(folder, "refused"), "w") as f:
                f.write(why)


def main(root):
    changes = history()
    written = []
    for case in collected():
        model = case.model
        if model.functions or not any(o.domain == "" for o in model.opset_import):
            continue
        own = next(o.version for o in model.opset_import if o.domain == "")
        names = {n.op_type for g in graphs(model.graph) for n in g.node if not n.domain}
        arrays = {v.name: value for v, value in zip(model.graph.input, case.data_sets[0][0])
                  if isinstance(value, (np.ndarray, np.generic))}
        for opset in sorted({v for n in names for v in changes.get(n, ()) if v < own}):
            old = at(model, opset, arrays)
            if old is None:
                continue
            name = "%s@%d" % (case.name, opset)
            folder = os.path.join(root, name)
            os.makedirs(folder)
            write(os.path.join(folder, "model.onnx"), old)
            index = {v.name: i for i, v in enumerate(model.graph.input)}
            with open(os.path.join(folder, "inputs"), "w") as f:
                f.write(" ".join(str(index[v.name]) for v in old.graph.input))
            written.append(name)
    left = written
    while left:
        process = multiprocessing.Process(target=convert_all, args=(root, left))
        process.start()
        process.join()
        done = lambda name: any(os.path.exists(os.path.join(root, name, f)) for f in ("converted.onnx", "refused"))
        left = [name for name in left if not done(name)]
        if left and process.exitcode != 0:
            with open(os.path.join(root, left[0], "refused"), "w") as f:
                f.write("refused: the converter ends the process")
            left = left[1:]


if __name__ == "__main__":
    main(sys.argv[1])
