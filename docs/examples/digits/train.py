#!/usr/bin/env python3
"""Trains the small digit classifier of this folder and writes it as ONNX, with its data.

    pip install numpy==2.4.6 onnx==1.23.2 scikit-learn==1.9.1
    python train.py            # a quarter of a minute; rewrites digits.onnx, digits_test.npz, digits_calib.npz

The data are scikit-learn's 1797 handwritten digits (8x8 grey values). The network is written and
trained with NumPy alone, in NHWC, and exported in ONNX's NCHW with BatchNormalization left
unfused, as training frameworks export it:

    conv1  3x3  1->32   BN Relu
    dw     3x3 32       BN Relu      depthwise
    pw     1x1 32->64   BN Relu
    pool   2x2 max
    conv2  3x3 64->64   BN           + the block's input, Relu
    GlobalAveragePool, Flatten, Gemm 64->10

The seeds are fixed and BLAS runs on one thread, so one machine gives one file; another BLAS or
processor may differ in the last bits of the weights.
"""
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits

HERE = os.path.dirname(os.path.abspath(__file__))
SEED, EPOCHS, BATCH, RATE, DECAY = 7, 40, 64, 4e-3, 2e-2
TESTS, CALIBRATION = 600, 128
EPSILON, MOMENTUM = 1e-5, 0.9


class Conv:
    """Convolution with "same" padding; `depthwise` multiplies channel by channel."""

    def __init__(self, rng, kernel, inputs, outputs, depthwise=False):
        self.depthwise, self.pad = depthwise, kernel // 2
        shape = (kernel, kernel, inputs) if depthwise else (kernel, kernel, inputs, outputs)
        fan_in = kernel * kernel * (1 if depthwise else inputs)
        self.params = {"w": rng.normal(0, (2 / fan_in) ** 0.5, shape).astype(np.float32)}
        self.grads = {}

    def taps(self, padded, size):
        """The kernel's positions, each with the part of the padded input it meets."""
        w = self.params["w"]
        for i in range(w.shape[0]):
            for j in range(w.shape[1]):
                yield (i, j), padded[:, i:i + size[0], j:j + size[1], :]

    def forward(self, x, train):
        p = self.pad
        self.size, self.padded = x.shape[1:3], np.pad(x, ((0, 0), (p, p), (p, p), (0, 0)))
        w = self.params["w"]
        parts = self.taps(self.padded, self.size)
        return sum(part * w[at] if self.depthwise else part @ w[at] for at, part in parts)

    def backward(self, dy):
        w, p = self.params["w"], self.pad
        dw, dpadded = np.zeros_like(w), np.zeros_like(self.padded)
        for (at, part), (_, dpart) in zip(self.taps(self.padded, self.size), self.taps(dpadded, self.size)):
            if self.depthwise:
                dw[at] = np.sum(part * dy, axis=(0, 1, 2))
                dpart += dy * w[at]
            else:
                dw[at] = np.tensordot(part, dy, axes=((0, 1, 2), (0, 1, 2)))
                dpart += dy @ w[at].T
        self.grads["w"] = dw
        return dpadded[:, p:p + self.size[0], p:p + self.size[1], :]


class BatchNorm:
    """Batch statistics in training, running ones afterwards."""

    def __init__(self, channels):
        self.params = {"scale": np.ones(channels, np.float32), "bias": np.zeros(channels, np.float32)}
        self.mean, self.var = np.zeros(channels, np.float32), np.ones(channels, np.float32)
        self.grads = {}

    def forward(self, x, train):
        mean, var = self.mean, self.var
        if train:
            mean, var = x.mean(axis=(0, 1, 2)), x.var(axis=(0, 1, 2))
            self.mean = MOMENTUM * self.mean + (1 - MOMENTUM) * mean
            self.var = MOMENTUM * self.var + (1 - MOMENTUM) * var
        self.spread = np.sqrt(var + np.float32(EPSILON))
        self.normal = (x - mean) / self.spread
        return self.normal * self.params["scale"] + self.params["bias"]

    def backward(self, dy):
        axes = (0, 1, 2)
        self.grads = {"scale": (dy * self.normal).sum(axis=axes), "bias": dy.sum(axis=axes)}
        centred = dy - dy.mean(axis=axes) - self.normal * (dy * self.normal).mean(axis=axes)
        return centred * self.params["scale"] / self.spread


class Relu:
    params = grads = {}

    def forward(self, x, train):
        self.live = x > 0
        return x * self.live

    def backward(self, dy):
        return dy * self.live


class MaxPool:
    """2x2, stride 2."""

    params = grads = {}

    def forward(self, x, train):
        n, h, w, c = x.shape
        blocks = x.reshape(n, h // 2, 2, w // 2, 2, c)
        y = blocks.max(axis=(2, 4))
        self.shape, self.top = x.shape, blocks == y[:, :, None, :, None, :]
        return y

    def backward(self, dy):
        share = dy / self.top.sum(axis=(2, 4))
        return (self.top * share[:, :, None, :, None, :]).reshape(self.shape)


class Gemm:
    def __init__(self, rng, inputs, outputs):
        self.params = {"w": rng.normal(0, inputs ** -0.5, (inputs, outputs)).astype(np.float32),
                       "b": np.zeros(outputs, np.float32)}
        self.grads = {}

    def forward(self, x, train):
        self.x = x
        return x @ self.params["w"] + self.params["b"]

    def backward(self, dy):
        self.grads = {"w": self.x.T @ dy, "b": dy.sum(axis=0)}
        return dy @ self.params["w"].T


class Network:
    """The layers by name; `stem` is a chain, `block` the residual branch."""

    def __init__(self, rng):
        self.stem = {"conv1": Conv(rng, 3, 1, 32), "bn1": BatchNorm(32), "relu1": Relu(),
                     "dw": Conv(rng, 3, 32, 32, depthwise=True), "bn2": BatchNorm(32), "relu2": Relu(),
                     "pw": Conv(rng, 1, 32, 64), "bn3": BatchNorm(64), "relu3": Relu(), "pool": MaxPool()}
        self.block = {"conv2": Conv(rng, 3, 64, 64), "bn4": BatchNorm(64)}
        self.relu4, self.fc = Relu(), Gemm(rng, 64, 10)
        self.layers = {**self.stem, **self.block, "relu4": self.relu4, "fc": self.fc}

    def forward(self, x, train=False):
        for layer in self.stem.values():
            x = layer.forward(x, train)
        y = x
        for layer in self.block.values():
            y = layer.forward(y, train)
        y = self.relu4.forward(x + y, train)
        self.area = y.shape[1:3]
        return self.fc.forward(y.mean(axis=(1, 2)), train)

    def backward(self, dlogits):
        dy = self.fc.backward(dlogits)[:, None, None, :] / np.float32(self.area[0] * self.area[1])
        dy = self.relu4.backward(np.broadcast_to(dy, (dy.shape[0], *self.area, dy.shape[3])))
        dx = dy
        for layer in reversed(self.block.values()):
            dy = layer.backward(dy)
        dx = dx + dy
        for layer in reversed(self.stem.values()):
            dx = layer.backward(dx)


class Adam:
    """Adam with decoupled weight decay on the kernels (not on scales and biases)."""

    def __init__(self, network):
        self.layers, self.step = network.layers, 0
        self.state = {(n, k): (np.zeros_like(p), np.zeros_like(p))
                      for n, layer in self.layers.items() for k, p in layer.params.items()}

    def update(self, rate):
        self.step += 1
        for (name, key), (m, v) in self.state.items():
            p, g = self.layers[name].params[key], self.layers[name].grads[key]
            m += (1 - 0.9) * (g - m)
            v += (1 - 0.999) * (g * g - v)
            move = (m / (1 - 0.9 ** self.step)) / (np.sqrt(v / (1 - 0.999 ** self.step)) + 1e-8)
            p -= (rate * (move + (DECAY * p if key == "w" else 0))).astype(np.float32)


def shifted(rng, x):
    """The images, each moved by up to one pixel in each direction."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    moves = rng.integers(0, 3, (len(x), 2))
    return np.stack([image[i:i + 8, j:j + 8] for image, (i, j) in zip(padded, moves)])


def train(rng, network, x, label):
    optimizer, steps = Adam(network), EPOCHS * (len(x) // BATCH)
    for step in range(steps):
        if step % (len(x) // BATCH) == 0:
            order = rng.permutation(len(x))
        at = order[step % (len(x) // BATCH) * BATCH:][:BATCH]
        logits = network.forward(shifted(rng, x[at]), train=True)
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        p[np.arange(len(at)), label[at]] -= 1
        network.backward(p / np.float32(len(at)))
        optimizer.update(RATE * 0.5 * (1 + np.cos(np.pi * step / steps)))


def export(network):
    """The trained network as an ONNX model of opset 13."""
    nodes, weights = [], []

    def put(name, value):
        weights.append(numpy_helper.from_array(np.ascontiguousarray(value, np.float32), name))
        return name

    def add(op, name, inputs, **attributes):
        nodes.append(helper.make_node(op, inputs, [name + "_out"], name=name, **attributes))
        return name + "_out"

    def convolve(name, bn, x):
        layer, norm = network.layers[name], network.layers[bn]
        w = layer.params["w"]
        w = w.transpose(2, 0, 1)[:, None] if layer.depthwise else w.transpose(3, 2, 0, 1)
        y = add("Conv", name, [x, put(name + ".weight", w)], kernel_shape=list(w.shape[2:]),
                pads=[layer.pad] * 4, group=w.shape[0] if layer.depthwise else 1)
        stats = {**norm.params, "mean": norm.mean, "var": norm.var}
        return add("BatchNormalization", bn, [y] + [put(bn + "." + k, v) for k, v in stats.items()],
                   epsilon=EPSILON)

    x = "input"
    for conv, bn, relu in (("conv1", "bn1", "relu1"), ("dw", "bn2", "relu2"), ("pw", "bn3", "relu3")):
        x = add("Relu", relu, [convolve(conv, bn, x)])
    x = add("MaxPool", "pool", [x], kernel_shape=[2, 2], strides=[2, 2])
    x = add("Relu", "relu4", [add("Add", "add", [x, convolve("conv2", "bn4", x)])])
    x = add("Flatten", "flatten", [add("GlobalAveragePool", "gap", [x])], axis=1)
    fc = network.fc.params
    nodes.append(helper.make_node("Gemm", [x, put("fc.weight", fc["w"].T), put("fc.bias", fc["b"])],
                                  ["logits"], name="fc", transB=1))
    graph = helper.make_graph(
        nodes, "digits",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 1, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 10])], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7,
                              producer_name="onnxq-digits")
    onnx.checker.check_model(model, full_check=True)
    return model


def main():
    digits = load_digits()
    images = (digits.images[..., None] / 16).astype(np.float32)
    rng = np.random.default_rng(SEED)
    order = rng.permutation(len(images))
    test, rest = order[:TESTS], order[TESTS:]
    network = Network(rng)
    train(rng, network, images[rest], digits.target[rest])
    accuracy = np.mean(network.forward(images[test]).argmax(axis=1) == digits.target[test])
    print("test accuracy %.2f %% of %d" % (100 * accuracy, TESTS))

    onnx.save(export(network), os.path.join(HERE, "digits.onnx"))
    for name, rows in (("digits_test.npz", test), ("digits_calib.npz", rest[:CALIBRATION])):
        np.savez_compressed(os.path.join(HERE, name), input=images[rows].transpose(0, 3, 1, 2),
                            label=digits.target[rows].astype(np.int64))


if __name__ == "__main__":
    main()
