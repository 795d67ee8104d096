#!/usr/bin/env python3
"""What the ONNX Runtime tool makes of the model zoo, measured; and what another tool makes of it.

    reference.py --zoo DIR --models DIR -o reference.json       # record the reference figures
    reference.py --zoo DIR --models DIR --ours DIR [-o FILE]    # measure DIR/NAME.onnx the same way

`--zoo` has the models' stored inputs, outputs and data sets, `--models` every model as a complete
file (`target/zoo/models` after the test suite has run once). `--only A,B` limits the models.

The reference flow is `quant_pre_process` and then `quantize_dynamic`, both with their defaults.
Where it fails, two more are tried: `no-symbolic` (preprocessing without symbolic shape inference)
and `original` (no preprocessing). All three are recorded; `best` names the first that gives a
model which loads and runs. Outputs are compared with the float model's from the zoo's `io` files;
data sets give accuracy. An exact output has the SQNR 999, one that is not finite -999.
"""
import argparse
import json
import logging
import os
import platform
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime as ort
from onnxruntime.quantization import quantize_dynamic
from onnxruntime.quantization.shape_inference import quant_pre_process

from worker import session

HERE = os.path.dirname(os.path.abspath(__file__))
FLOWS = {"preprocessed": {}, "no-symbolic": {"skip_symbolic_shape": True}, "original": None}
EXACT, BROKEN = 999.0, -999.0
# Our own example is measured beside the zoo.
EXAMPLE = os.path.join(HERE, "..", "..", "docs", "examples", "digits")


def shorten(error):
    """The first line of what went wrong; files' names and addresses would differ in each run."""
    lines = [line for line in str(error).splitlines() if line.strip()] or [""]
    return ("%s: %s" % (type(error).__name__, lines[0].replace(tempfile.gettempdir(), "")))[:300]


def metrics(want, got):
    """The distance of an output from the float model's."""
    if want.shape != got.shape:
        return {"error": "shape %s, expected %s" % (list(got.shape), list(want.shape))}
    if want.dtype.kind not in "f":
        return {"equal": float(np.mean(want == got)) if want.size else 1.0}
    a, b = want.astype(np.float64).ravel(), got.astype(np.float64).ravel()
    if not np.all(np.isfinite(b) | ~np.isfinite(a)):
        return {"sqnr_db": BROKEN, "max_abs": None, "cosine": None}
    finite = np.isfinite(a) & np.isfinite(b)
    a, b = a[finite], b[finite]
    signal, noise = float(a @ a), float((a - b) @ (a - b))
    sqnr = EXACT if noise == 0 else BROKEN if signal == 0 else 10 * np.log10(signal / noise)
    lengths = np.sqrt(signal * float(b @ b))
    return {"sqnr_db": round(float(sqnr), 3), "max_abs": float("%.6g" % np.abs(a - b).max(initial=0)),
            "cosine": round(float(a @ b) / lengths, 7) if lengths else (1.0 if noise == 0 else 0.0)}


def top1(sess, data, original):
    logits = sess.run(None, {sess.get_inputs()[0].name: data["input"]})[0]
    return {"accuracy": round(float(np.mean(logits.argmax(axis=1) == data["label"])), 5)}


def retrieval(sess, data, original):
    """Sentences of the two halves say the same, row by row: does each find its partner?"""
    feeds = {i.name: data[i.name] for i in sess.get_inputs()}
    hidden = sess.run(None, feeds)[0]
    mask = data["attention_mask"][..., None].astype(np.float32)
    pooled = (hidden * mask).sum(axis=1) / mask.sum(axis=1)
    pooled /= np.linalg.norm(pooled, axis=1, keepdims=True)
    cosine = pooled @ pooled.T
    rows = np.arange(len(pooled))
    partner = (rows + len(rows) // 2) % len(rows)
    np.fill_diagonal(cosine, -np.inf)
    paired = cosine[rows, partner]
    cosine[rows, partner] = -np.inf
    return {"accuracy": round(float(np.mean(paired > cosine.max(axis=1))), 5),
            "paired_cosine": round(float(paired.mean()), 6),
            "margin": round(float((paired - cosine.max(axis=1)).min()), 6),
            "cosine_to_float": round(float((pooled * data["embedding"]).sum(axis=1).mean()), 7)}


def speech_frames(sess, pcm):
    """Silero's decision for each frame of 512 samples, preceded by the 64 before it."""
    x, state, said = pcm.astype(np.float32) / 32768, np.zeros((2, 1, 128), np.float32), []
    for at in range(0, len(x) - 511, 512):
        frame = np.concatenate([x[at - 64:at] if at else np.zeros(64, np.float32), x[at:at + 512]])
        p, state = sess.run(["output", "stateN"], {"input": frame[None], "state": state, "sr": np.array(16000)})
        said.append(p.item() > 0.5)
    return np.array(said)


def speech(sess, data, original):
    """The frames where the decision is the float model's."""
    got, want = (speech_frames(s, data["pcm"]) for s in (sess, original()))
    return {"accuracy": round(float(np.mean(got == want)), 5), "speech": round(float(got.mean()), 5)}


def face_anchors(sess, rgb):
    """The anchors of each image that hold a face, of an UltraFace model of 320x240."""
    x = (rgb.astype(np.float32).transpose(0, 3, 1, 2) - 127) / 128
    name = sess.get_inputs()[0].name
    return np.stack([sess.run(["scores"], {name: image[None]})[0][0, :, 1] > 0.7 for image in x])


def faces(sess, data, original):
    """Anchors found by both over those found by either."""
    got, want = (face_anchors(s, data["rgb"]) for s in (sess, original()))
    return {"accuracy": round(float((got & want).sum() / (got | want).sum()), 5), "anchors": int(got.sum())}


# The data set of a model and how it is measured on it. "accuracy" is 1 where nothing is lost, or,
# with labels, where everything is right.
TASKS = {"digits_cnn": ("digits_test.npz", top1), "tabular_mlp": ("tabular_mlp_test.npz", top1),
         "minilm": ("minilm_text.npz", retrieval), "digits": ("digits_test.npz", top1),
         "silero_vad": ("speech_16k.npz", speech), "silero_vad_16k_op15": ("speech_16k.npz", speech),
         "ultraface": ("faces_320x240.npz", faces), "ultraface_slim_320": ("faces_320x240.npz", faces)}


class Zoo:
    def __init__(self, root, models, only):
        self.root = root
        self.paths = {f[:-5]: os.path.join(models, f) for f in sorted(os.listdir(models)) if f.endswith(".onnx")}
        self.paths["digits"] = os.path.join(EXAMPLE, "digits.onnx")
        if only:
            self.paths = {n: self.paths[n] for n in only}

    def io(self, name):
        """The stored inputs and the float model's outputs."""
        if name == "digits":
            data = np.load(os.path.join(EXAMPLE, "digits_calib.npz"))["input"][:4]
            float_outputs = session(self.paths[name], "basic").run(None, {"input": data})
            return {"input": data}, {"logits": float_outputs[0]}
        path = os.path.join(self.root, "io", name + ".npz")
        if not os.path.exists(path):
            return None, None
        z = np.load(path)
        part = lambda kind: {k[len(kind):]: z[k] for k in z.files if k.startswith(kind)}
        return part("input/"), part("output/")

    def data(self, name):
        folder = EXAMPLE if name == "digits" else os.path.join(self.root, "data")
        return np.load(os.path.join(folder, TASKS[name][0]))

    def evaluate(self, name, path):
        """Size, distance to the float model, and accuracy of a file made from the model `name`."""
        size = os.path.getsize(path)
        if os.path.exists(path + ".data"):
            size += os.path.getsize(path + ".data")
        result = {"bytes": size}
        sess = session(path, "all")
        inputs, outputs = self.io(name)
        if inputs is not None:
            got = dict(zip([o.name for o in sess.get_outputs()], sess.run(None, inputs)))
            missing = {"error": "no such output"}
            result["outputs"] = {o: metrics(v, got[o]) if o in got else missing for o, v in outputs.items()}
            levels = [m["sqnr_db"] for m in result["outputs"].values() if "sqnr_db" in m]
            if levels:
                result["worst_sqnr_db"] = min(levels)
        if name in TASKS:
            result["task"] = TASKS[name][1](sess, self.data(name), lambda: session(self.paths[name], "all"))
        return result


def flow(zoo, name, options, scratch, quantize):
    """One flow of the tool on one model: its figures, or the step that failed and why. `quantize`
    makes a file from a preprocessed one, or from the model itself without `options` for that."""
    source, out = zoo.paths[name], os.path.join(scratch, name + ".onnx")
    step = "preprocess"
    try:
        if options is not None:
            source = os.path.join(scratch, name + ".pre.onnx")
            quant_pre_process(zoo.paths[name], source, **options)
        step = "quantize"
        quantize(source, out)
        step = "run"
        return zoo.evaluate(name, out)
    except Exception as e:  # a failure is a result
        return {"failed": step, "error": shorten(e)}


def best(flows):
    """The first that gives a model which loads and runs."""
    return next((f for f, r in flows.items() if "error" not in r), None)


def record(zoo):
    models = {}
    for name, path in zoo.paths.items():
        entry = {"float": zoo.evaluate(name, path)}
        with tempfile.TemporaryDirectory() as scratch:
            entry["flows"] = {f: flow(zoo, name, options, scratch, quantize_dynamic) for f, options in FLOWS.items()}
        entry["best"] = best(entry["flows"])
        models[name] = entry
        print("%-24s %s" % (name, "  ".join("%s %s" % (f, summary(r)) for f, r in entry["flows"].items())), flush=True)
    return models


def summary(result):
    if "error" in result:
        return "FAILED in " + result["failed"] if "failed" in result else "FAILED: " + result["error"]
    task = result.get("task", {}).get("accuracy")
    level = "%.1f dB" % result["worst_sqnr_db"] if "worst_sqnr_db" in result else "loads"
    return "%s, %d bytes%s" % (level, result["bytes"], "" if task is None else ", accuracy %.4f" % task)


def measure(zoo, folder, baseline):
    """Files of another tool, beside the recorded figures of the best reference flow."""
    models = {}
    for name in zoo.paths:
        path = os.path.join(folder, name + ".onnx")
        try:
            models[name] = zoo.evaluate(name, path) if os.path.exists(path) else {"error": "no file"}
        except Exception as e:  # reported like the rest
            models[name] = {"error": shorten(e)}
        known = baseline.get(name, {})
        theirs = known.get("flows", {}).get(known.get("best"), {"error": "every flow fails"})
        print("%-24s %-44s reference %s" % (name, summary(models[name]), summary(theirs)), flush=True)
    return models


def machine():
    try:
        with open("/proc/cpuinfo") as f:
            info = dict(line.split(":", 1) for line in f.read().split("\n\n")[0].splitlines() if ":" in line)
    except OSError:
        return {"processor": platform.processor()}
    info = {k.strip(): v.strip() for k, v in info.items()}
    return {"processor": info.get("model name", platform.machine()), "vnni": "vnni" in info.get("flags", "")}


def arguments(description):
    ap = argparse.ArgumentParser(description=description)
    ap.add_argument("--zoo", required=True)
    ap.add_argument("--models", required=True)
    ap.add_argument("--only", help="names, separated by commas")
    ap.add_argument("-o", "--output")
    return ap


def figures(args, collect):
    """What `collect` finds of the zoo's models; it goes to the output file as well, if there is one."""
    logging.disable(logging.CRITICAL)
    ort.set_default_logger_severity(4)
    zoo = Zoo(os.path.abspath(args.zoo), os.path.abspath(args.models), args.only and args.only.split(","))
    output = args.output and os.path.abspath(args.output)
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)  # the reference tools leave files in the current directory
        models = collect(zoo)
        os.chdir(HERE)
    result = {"versions": {"python": platform.python_version(), "onnx": onnx.__version__,
                           "onnxruntime": ort.__version__, "numpy": np.__version__},
              "machine": machine(), "models": models}
    if output:
        with open(output, "w") as f:
            json.dump(result, f, indent=1)
            f.write("\n")
    return models


def main():
    ap = arguments("Measure dynamic INT8 quantization of the model zoo.")
    ap.add_argument("--ours", metavar="DIR", help="measure these files instead of the reference tool's")
    args = ap.parse_args()
    if not args.ours:
        figures(args, record)
        return False
    ours = os.path.abspath(args.ours)
    with open(os.path.join(HERE, "reference.json")) as f:
        baseline = json.load(f)["models"]
    models = figures(args, lambda zoo: measure(zoo, ours, baseline))
    return any("error" in m for m in models.values())


if __name__ == "__main__":
    sys.exit(main())
