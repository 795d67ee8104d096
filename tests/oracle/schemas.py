"""Writes the opsets at which the schemas of operators changed.

    python schemas.py FOLDER

`FOLDER/schemas.json` is `{domain: {operator: [opset, ...]}}`, of those that are not deprecated.
"""
import collections
import json
import os
import sys

import onnx


def main(root):
    found = collections.defaultdict(lambda: collections.defaultdict(list))
    for schema in onnx.defs.get_all_schemas_with_history():
        found[schema.domain][schema.name].append((schema.since_version, schema.deprecated))
    table = {}
    for domain, operators in sorted(found.items()):
        for name, versions in sorted(operators.items()):
            versions.sort()
            table.setdefault(domain, {})[name] = [v for v, deprecated in versions if not deprecated]
    with open(os.path.join(root, "schemas.json"), "w") as f:
        json.dump(table, f, indent=0)


if __name__ == "__main__":
    main(sys.argv[1])
