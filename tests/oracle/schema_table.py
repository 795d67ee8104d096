"""Prints the schemas of the standard operators at all their versions, as `crates/onnxq-ops/src/upgrade/schemas.txt` has them.

First the sets of element types, one to a line, numbered from 0 (`-` has none); a blank line; then one line for each
version of an operator, in the order of names and versions:

    Name version [deprecated] | operand:set ... | result:set ... | attribute[=default] ...

An operand that may be left out ends in `?`, one that may be repeated in `*`.
"""
import sys

from onnx import defs, helper

OPTION = defs.OpSchema.FormalParameterOption
SUFFIX = {OPTION.Single: "", OPTION.Optional: "?", OPTION.Variadic: "*"}


def default(attribute):
    """The default, where there is one."""
    proto = attribute.default_value
    if not proto.name:
        return ""
    value = helper.get_attribute_value(proto)
    if isinstance(value, bytes):
        value = value.decode()
    if isinstance(value, (list, tuple)):
        return "=" + ",".join(map(str, value))
    return "=%s" % value


def main(out):
    sets = {}

    def formal(f):
        types = sorted(t[len("tensor("):-1] for t in f.types if t.startswith("tensor("))
        number = sets.setdefault(" ".join(types) or "-", len(sets))
        return "%s%s:%d" % (f.name, SUFFIX[f.option], number)

    lines = []
    schemas = [s for s in defs.get_all_schemas_with_history() if s.domain == ""]
    for s in sorted(schemas, key=lambda s: (s.name, s.since_version)):
        attributes = [name + default(s.attributes[name]) for name in sorted(s.attributes)]
        head = "%s %d%s" % (s.name, s.since_version, " deprecated" if s.deprecated else "")
        parts = [[formal(f) for f in s.inputs], [formal(f) for f in s.outputs], attributes]
        lines.append(" | ".join([head] + [" ".join(p) for p in parts]).rstrip())
    out.write("\n".join(sets) + "\n\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main(sys.stdout)
