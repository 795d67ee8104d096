#!/usr/bin/env python3
"""Quantizes models with onnxq-opt and with the ONNX Runtime tool, and compares what it costs.

    target/oracle-venv/bin/python tests/bench/quantize_time.py target/release/onnxq-opt target/zoo/models/*.onnx

Whole processes, from start to exit: processor seconds over all cores, seconds on the clock, peak
memory. Ours runs `--passes preprocess,quantize,fuse`; theirs is `quant_pre_process` (without
symbolic shape inference where that fails, without any preprocessing where that does not help) and
then `quantize_dynamic`. The two take turns, and the ratios printed are medians over the rounds of
theirs divided by ours: above 1, ours is cheaper. The first round warms up and is not counted.
"""
import argparse
import json
import os
import statistics
import sys
import tempfile

from process import FLOWS, ours, reference, run, table

KEYS = ("cpu_s", "wall_s", "peak_mib")


def working_flow(python, model, out):
    """The first flow of the reference tool that works, or the last one's error."""
    for flow in FLOWS:
        result = run(reference(python, flow, model, out))
        if "error" not in result:
            return flow, None
    return None, result["error"]


def measure(args, model, folder):
    out = os.path.join(folder, "out.onnx")
    mine, theirs = ours(args.onnxq_opt, model, out), None
    first = run(mine)
    if "error" in first:
        return {"error": first["error"]}
    result = {"bytes": os.path.getsize(out), "ours": [], "theirs": []}
    result["flow"], result["their_error"] = working_flow(args.python, model, out)
    if result["flow"]:
        theirs = reference(args.python, result["flow"], model, out)
    for i in range(args.rounds):
        turns = [("ours", mine), ("theirs", theirs)]
        for who, argv in turns[::-1] if i % 2 else turns:
            if argv:
                result[who].append(run(argv))
    return result


def summarize(result):
    """Medians of each side and of the ratios round by round."""
    failed = [r["error"] for r in result["ours"] + result["theirs"] if "error" in r]
    if failed:
        return {"error": failed[0]}
    middle = lambda rounds: {k: statistics.median(r[k] for r in rounds) for k in KEYS} if rounds else None
    ratios = [{k: b[k] / a[k] for k in KEYS} for a, b in zip(result["ours"], result["theirs"])]
    return {"ours": middle(result["ours"]), "theirs": middle(result["theirs"]), "ratio": middle(ratios)}


def row(name, result):
    if "error" in result:
        return [name, "FAILED: " + result["error"]] + [""] * 9
    cells = [name, result["flow"] or "fails"]
    for key, form in zip(KEYS, ("%.2f", "%.2f", "%.0f")):
        for who in ("ours", "theirs"):
            cells.append(form % result[who][key] if result[who] else "-")
        cells.append("%.1fx" % result["ratio"][key] if result["ratio"] else "-")
    return cells


def main():
    ap = argparse.ArgumentParser(description="Cost of quantizing models, against the ONNX Runtime tool.")
    ap.add_argument("onnxq_opt")
    ap.add_argument("models", nargs="+")
    ap.add_argument("--rounds", type=int, default=5)
    ap.add_argument("--python", default=sys.executable, help="an interpreter with onnxruntime (default: this one)")
    ap.add_argument("--json", metavar="FILE")
    args = ap.parse_args()
    results = {}
    for model in args.models:
        name = os.path.splitext(os.path.basename(model))[0]
        with tempfile.TemporaryDirectory() as folder:
            result = measure(args, model, folder)
        results[name] = result if "error" in result else {**result, **summarize(result)}
        print(name, file=sys.stderr, flush=True)
    table(["model", "reference flow", "cpu s", "theirs", "ratio", "wall s", "theirs", "ratio", "peak MiB", "theirs",
           "ratio"], [row(n, r) for n, r in results.items()])
    compared = [r["ratio"] for r in results.values() if r.get("ratio")]
    if compared:
        print("median ratios over %d models: cpu %.1fx, wall %.1fx, peak memory %.1fx" % (
            len(compared), *(statistics.median(r[k] for r in compared) for k in KEYS)))
    if args.json:
        with open(args.json, "w") as f:
            json.dump(results, f, indent=1)
    return any("error" in r for r in results.values())


if __name__ == "__main__":
    sys.exit(main())
