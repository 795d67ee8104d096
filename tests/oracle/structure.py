"""Structural comparison of ONNX models: the same graph, whatever its spelling.

Two models are equal when everything that reaches an execution is: names of values and nodes,
operators, attributes, weights bit by bit, types, opsets, functions. The order of nodes (any
order that respects the data flow means the same), of initializers, attributes and opset imports,
the field a tensor's elements are stored in, trailing absent inputs, and the two spellings of the
default domain make no difference.
"""
import onnx
from onnx import numpy_helper

_A = onnx.AttributeProto
ONE = {_A.FLOAT: "f", _A.INT: "i", _A.STRING: "s", _A.TENSOR: "t", _A.GRAPH: "g", _A.TYPE_PROTO: "tp"}
MANY = {_A.FLOATS: "floats", _A.INTS: "ints", _A.STRINGS: "strings", _A.TENSORS: "tensors",
        _A.GRAPHS: "graphs", _A.TYPE_PROTOS: "type_protos"}


def domain(name):
    return "" if name == "ai.onnx" else name


def tensor(t):
    """Type, dimensions and bytes: int32_data and raw_data spell the same tensor."""
    data = list(t.string_data) if t.data_type == onnx.TensorProto.STRING else numpy_helper.to_array(t).tobytes()
    return {"dtype": t.data_type, "dims": list(t.dims), "data": data}


def metadata(props, ignore):
    return {} if "metadata" in ignore else {p.key: p.value for p in props}


def serialized(message):
    return message.SerializeToString(deterministic=True)


def value(v, ignore):
    if isinstance(v, onnx.TensorProto):
        return tensor(v)
    if isinstance(v, onnx.GraphProto):
        return graph(v, ignore)
    if isinstance(v, float):
        return v.hex()  # tells -0 from 0, and a NaN equals itself
    return serialized(v) if isinstance(v, onnx.TypeProto) else v


def attribute(a, ignore):
    if a.ref_attr_name:
        return {"ref": a.ref_attr_name}
    if a.type in ONE:
        return value(getattr(a, ONE[a.type]), ignore)
    if a.type in MANY:
        return [value(v, ignore) for v in getattr(a, MANY[a.type])]
    return serialized(a)


def node(n, ignore):
    inputs = list(n.input)
    while inputs and not inputs[-1]:
        inputs.pop()
    return {"name": "" if "node_names" in ignore else n.name, "op": n.op_type, "domain": domain(n.domain),
            "overload": n.overload, "inputs": inputs, "outputs": list(n.output),
            "attributes": {a.name: attribute(a, ignore) for a in n.attribute},
            "metadata": metadata(n.metadata_props, ignore)}


def nodes(all_nodes, ignore):
    """By their outputs, which name a node in SSA form whatever the order."""
    described = [node(n, ignore) for n in all_nodes]
    return {"->".join(n["outputs"]) or "node %d" % i: n for i, n in enumerate(described)}


def types(infos):
    return {v.name: serialized(v.type) for v in infos}


def graph(g, ignore):
    out = {"inputs": [v.name for v in g.input], "outputs": [v.name for v in g.output],
           "input types": types(g.input), "output types": types(g.output),
           "initializers": {t.name: tensor(t) for t in g.initializer},
           "sparse initializers": {s.values.name: serialized(s) for s in g.sparse_initializer},
           "annotations": {q.tensor_name: serialized(q) for q in g.quantization_annotation},
           "nodes": nodes(g.node, ignore)}
    if "graph_name" not in ignore:
        out["name"] = g.name
    if "value_info" not in ignore:
        out["value_info"] = types(g.value_info)
    if "doc_string" not in ignore:
        out["doc_string"] = g.doc_string
    return out


def function(f, ignore):
    return {"inputs": list(f.input), "outputs": list(f.output), "attributes": sorted(f.attribute),
            "defaults": {a.name: attribute(a, ignore) for a in f.attribute_proto},
            "opsets": opsets(f.opset_import), "nodes": nodes(f.node, ignore)}


def opsets(imports):
    return {domain(o.domain): o.version for o in imports}


def model(m, ignore):
    out = {"ir_version": m.ir_version, "opsets": opsets(m.opset_import), "graph": graph(m.graph, ignore),
           "functions": {"%s.%s:%s" % (domain(f.domain), f.name, f.overload): function(f, ignore)
                         for f in m.functions},
           "metadata": metadata(m.metadata_props, ignore)}
    if "producer" not in ignore:
        out["producer"] = [m.producer_name, m.producer_version, m.domain, m.model_version]
    if "doc_string" not in ignore:
        out["doc_string"] = m.doc_string
    return out


def first_difference(a, b, at):
    if isinstance(a, dict) and isinstance(b, dict):
        for key in [*a, *(k for k in b if k not in a)]:
            if key not in a or key not in b:
                return "%s/%s: only in the %s model" % (at, key, "second" if key not in a else "first")
            found = first_difference(a[key], b[key], "%s/%s" % (at, key))
            if found:
                return found
        return None
    return None if a == b else "%s: %s and %s" % (at, repr(a)[:200], repr(b)[:200])


def difference(a, b, ignore):
    """Where two models first differ, as text; None if nowhere.

    `ignore` may hold "producer", "metadata", "doc_string", "value_info", "graph_name", "node_names".
    """
    return first_difference(model(a, ignore), model(b, ignore), "")
