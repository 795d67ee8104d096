//! Random models of a few nodes, compiled, against the reference: recurrent cells, depthwise
//! convolutions with dynamic quantization, and nearest elements.

use std::fmt::Write;

use onnxq::{
    CompileOptions, Cpu, Executor, Memory, compile,
    tensor::{DType, Tensor},
};
use proptest::prelude::*;

/// A generator of numbers, for contents that need no shrinking.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }

    /// From -1 to 1.
    fn float(&mut self) -> f32 {
        self.below(20_001) as f32 / 10_000.0 - 1.0
    }

    fn tensor(&mut self, dims: &[usize]) -> Tensor {
        let data: Vec<f32> = (0..dims.iter().product())
            .map(|_| self.float() * 2.0)
            .collect();
        Tensor::from_vec(dims, data).expect("as many elements")
    }

    /// The text of constants, one after the other.
    fn floats(&mut self, name: &str, dims: &[usize], factor: f32) -> String {
        let len = dims.iter().product();
        let data = list((0..len).map(|_| self.float() * factor));
        format!("float{} {name} = {{{data}}},\n", shape(dims))
    }

    fn bytes(&mut self, name: &str, signed: bool, dims: &[usize]) -> String {
        let len = dims.iter().product();
        let less = if signed { 128 } else { 0 };
        let data = list((0..len).map(|_| self.below(256) as i64 - less));
        format!("{} {name} = {{{data}}},\n", byte(signed) + &shape(dims))
    }
}

fn byte(signed: bool) -> String {
    if signed { "int8" } else { "uint8" }.to_owned()
}

fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|i| i.to_string()).collect();
    items.join(", ")
}

fn shape(dims: &[usize]) -> String {
    match dims {
        [] => String::new(),
        _ => format!("[{}]", list(dims)),
    }
}

/// A model of these inputs, outputs, constants and nodes.
fn model(inputs: &str, outputs: &str, constants: &str, nodes: &str) -> String {
    let constants = constants.trim_end().trim_end_matches(',');
    format!(
        "<ir_version: 10, opset_import: [\"\": 21, \"com.microsoft\": 1]>\n\
         main ({inputs}) => ({outputs})\n<{constants}>\n{{\n{nodes}\n}}"
    )
}

/// Compiles the model for every tier, and with two threads; checks that all give the same, within
/// `tolerance` of the reference where they are floats, and equal to it elsewhere.
fn check(text: &str, given: &[Option<Tensor>], tolerance: f32) {
    let model = onnxq::parse(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let tiers = Cpu::available()
        .map(|cpu| (cpu, 1))
        .chain([(Cpu::detect(), 2)]);
    let mut first: Option<Vec<Tensor>> = None;
    for (cpu, threads) in tiers {
        let options = CompileOptions {
            cpu,
            threads,
            ..CompileOptions::default()
        };
        let program = compile(&model, &options).unwrap_or_else(|e| panic!("{e}\n{text}"));
        for step in program.steps() {
            assert!(!step.by_reference, "{} has no kernel\n{text}", step.kernel);
        }
        let got = program
            .run(&mut Memory::new(), given)
            .unwrap_or_else(|e| panic!("{e}\n{text}"));
        let what = format!("{} with {threads} threads", cpu.isa());
        if let Some(first) = &first {
            for (got, first) in got.iter().zip(first) {
                assert_eq!(got.bytes(), first.bytes(), "{what}\n{text}");
            }
            continue;
        }
        let expected = Executor::new(program.model())
            .run(given)
            .unwrap_or_else(|e| panic!("{e}\n{text}"));
        for (got, expected) in got.iter().zip(&expected) {
            compare(got, expected, tolerance, &format!("{what}\n{text}"));
        }
        first = Some(got);
    }
}

fn compare(got: &Tensor, expected: &Tensor, tolerance: f32, what: &str) {
    assert_eq!(got.dims(), expected.dims(), "{what}");
    if got.dtype() != DType::F32 {
        assert_eq!(got.bytes(), expected.bytes(), "{what}");
        return;
    }
    let floats = |t: &Tensor| t.as_slice::<f32>().expect("floats").into_owned();
    for (got, expected) in floats(got).into_iter().zip(floats(expected)) {
        let near = (got - expected).abs() <= tolerance * (1.0 + expected.abs());
        assert!(near, "{got} instead of {expected}\n{what}");
    }
}

/// A recurrent node over sequences.
#[derive(Clone, Debug)]
struct Recurrent {
    name: &'static str,
    steps: usize,
    batch: usize,
    input: usize,
    hidden: usize,
    direction: &'static str,
    bias: bool,
    states: bool,
    lengths: bool,
    linear: bool,
    clip: bool,
    signed: bool,
    per_column: bool,
    outputs: usize,
    seed: u64,
}

impl Recurrent {
    fn check(&self) {
        let mut numbers = Numbers(self.seed);
        let (gates, coded) = match self.name {
            "GRU" => (3, false),
            "LSTM" => (4, false),
            _ => (4, true),
        };
        let d = if self.direction == "bidirectional" {
            2
        } else {
            1
        };
        let (i, h, b, width) = (self.input, self.hidden, self.batch, gates * self.hidden);
        let mut constants = numbers.floats("b", &[d, 2 * width], 0.5);
        let mut operands = String::from("x, w, r");
        match coded {
            false => {
                constants += &numbers.floats("w", &[d, width, i], 1.0);
                constants += &numbers.floats("r", &[d, width, h], 0.5);
            }
            true => {
                constants += &numbers.bytes("w", self.signed, &[d, i, width]);
                constants += &numbers.bytes("r", self.signed, &[d, h, width]);
            }
        }
        let optional = |has: bool, name: &str| if has { name.to_owned() } else { String::new() };
        write!(operands, ", {}", optional(self.bias, "b")).expect("a string");
        let lengths = list((0..b).map(|_| self.steps));
        writeln!(constants, "int32[{b}] lengths = {{{lengths}}},").expect("a string");
        write!(operands, ", {}", optional(self.lengths, "lengths")).expect("a string");
        let mut inputs = format!("float[{}] x", list([self.steps, b, i]));
        let mut given = vec![Some(numbers.tensor(&[self.steps, b, i]))];
        let states = if gates == 4 { &["h", "c"][..] } else { &["h"] };
        for name in states {
            write!(operands, ", {}", optional(self.states, name)).expect("a string");
            if self.states {
                write!(inputs, ", float[{}] {name}", list([d, b, h])).expect("a string");
                given.push(Some(numbers.tensor(&[d, b, h])));
            }
        }
        if coded {
            let each: &[usize] = if self.per_column { &[d, width] } else { &[d] };
            for (name, zero) in [("ws", "wz"), ("rs", "rz")] {
                let scales =
                    list((0..each.iter().product()).map(|_| 0.002 + numbers.float() * 0.001));
                writeln!(constants, "float{} {name} = {{{scales}}},", shape(each))
                    .expect("a string");
                constants += &numbers.bytes(zero, self.signed, each);
            }
            operands += ", , ws, wz, rs, rz";
        }
        let mut attributes = format!("hidden_size = {h}, direction = \"{}\"", self.direction);
        if gates == 3 && self.linear {
            attributes += ", linear_before_reset = 1";
        }
        if self.clip {
            attributes += ", clip = 0.7";
        }
        let domain = if coded { "com.microsoft." } else { "" };
        let names = &["y", "last", "cell"][..self.outputs.min(1 + states.len())];
        let nodes = format!(
            "{} = {domain}{} <{attributes}> ({operands})",
            list(names),
            self.name
        );
        let outputs = names.iter().map(|name| match *name {
            "y" => format!("float[{}] y", list([self.steps, d, b, h])),
            name => format!("float[{}] {name}", list([d, b, h])),
        });
        let text = model(&inputs, &list(outputs), &constants, &nodes);
        // A code that is rounded the other way moves all that comes after it.
        check(&text, &given, if coded { 2e-2 } else { 1e-5 });
    }
}

fn recurrent() -> impl Strategy<Value = Recurrent> {
    let name = prop::sample::select(vec!["GRU", "LSTM", "DynamicQuantizeLSTM"]);
    let direction = prop::sample::select(vec!["forward", "reverse", "bidirectional"]);
    let sizes = (1..6usize, 1..4usize, 1..9usize, 1..40usize);
    let flags = any::<[bool; 7]>();
    (name, direction, sizes, flags, 1..4usize, any::<u64>()).prop_map(
        |(name, direction, (steps, batch, input, hidden), flags, outputs, seed)| {
            let [bias, states, lengths, linear, clip, signed, per_column] = flags;
            Recurrent {
                name,
                steps,
                batch,
                input,
                hidden,
                direction,
                bias,
                states,
                lengths,
                linear,
                clip,
                signed,
                per_column,
                outputs,
                seed,
            }
        },
    )
}

/// A depthwise convolution of floats that are quantized when it runs.
#[derive(Clone, Debug)]
struct Depthwise {
    images: usize,
    channels: usize,
    size: [usize; 2],
    kernel: [usize; 2],
    stride: usize,
    signed: bool,
    bias: bool,
    clamp: bool,
    seed: u64,
}

impl Depthwise {
    fn check(&self) {
        let mut numbers = Numbers(self.seed);
        let (c, [height, width]) = (self.channels, self.size);
        let pads = self.kernel.map(|k| k / 2);
        let out = [0, 1]
            .map(|a| (self.size[a] + 2 * pads[a]).saturating_sub(self.kernel[a]) / self.stride + 1);
        let [k0, k1] = self.kernel;
        let mut constants = numbers.bytes("w", self.signed, &[c, 1, k0, k1]);
        constants += &numbers.bytes("wz", self.signed, &[]);
        constants += &numbers.floats("bias", &[1, c, 1, 1], 3.0);
        constants += "float ws = {0.01}, float low = {0.0}, float high = {6.0},\n";
        let mut nodes = format!(
            "q, xs, xz = DynamicQuantizeLinear (x)\n\
             sums = ConvInteger <group = {c}, kernel_shape = [{k0}, {k1}], strides = [{s}, {s}], \
             pads = [{p0}, {p1}, {p0}, {p1}]> (q, w, xz, wz)\n\
             s = Mul (xs, ws)\nscaled = DequantizeLinear (sums, s)\n",
            s = self.stride,
            p0 = pads[0],
            p1 = pads[1],
        );
        let mut last = "scaled";
        if self.bias {
            nodes += "biased = Add (scaled, bias)\n";
            last = "biased";
        }
        match self.clamp {
            true => writeln!(nodes, "y = Clip ({last}, low, high)"),
            false => writeln!(nodes, "y = Identity ({last})"),
        }
        .expect("a string");
        let dims = [self.images, c, height, width];
        let text = model(
            &format!("float[{}] x", list(dims)),
            &format!("float[{}] y", list([self.images, c, out[0], out[1]])),
            &constants,
            &nodes,
        );
        check(&text, &[Some(numbers.tensor(&dims))], 0.0);
    }
}

fn depthwise() -> impl Strategy<Value = Depthwise> {
    let kernel = [1..4usize, 1..6usize];
    let sizes = (1..3usize, 2..70usize, [5..12usize, 5..12usize]);
    (sizes, kernel, 1..3usize, any::<[bool; 3]>(), any::<u64>()).prop_map(
        |((images, channels, size), kernel, stride, [signed, bias, clamp], seed)| Depthwise {
            images,
            channels,
            size,
            kernel,
            stride,
            signed,
            bias,
            clamp,
            seed,
        },
    )
}

/// Resize to the nearest element, plain or after a pool, which leaves the channels last.
#[derive(Clone, Debug)]
struct Nearest {
    dims: [usize; 4],
    to: [usize; 2],
    sizes: bool,
    pooled: bool,
    dtype: &'static str,
    coordinates: &'static str,
    rounding: &'static str,
    seed: u64,
}

impl Nearest {
    fn check(&self) {
        let mut numbers = Numbers(self.seed);
        let [n, c, height, width] = self.dims;
        let [to_height, to_width] = self.to;
        let scales = [
            to_height as f32 / height as f32,
            to_width as f32 / width as f32,
        ];
        let scales = scales.map(|s| s + 1e-3);
        let out = match self.sizes {
            true => self.to,
            false => [
                (height as f32 * scales[0]) as usize,
                (width as f32 * scales[1]) as usize,
            ],
        };
        let constants = format!(
            "int64[4] sizes = {{{n}, {c}, {to_height}, {to_width}}}, float[4] scales = {{1.0, 1.0, {:?}, {:?}}}",
            scales[0], scales[1]
        );
        let operands = if self.sizes {
            "x, , , sizes"
        } else {
            "x, , scales"
        };
        let (before, operands) = match self.pooled {
            false => ("", operands.to_owned()),
            true => (
                "p = MaxPool <kernel_shape = [1, 1]> (x)\n",
                operands.replacen('x', "p", 1),
            ),
        };
        let nodes = format!(
            "{before}y = Resize <mode = \"nearest\", nearest_mode = \"{}\", \
             coordinate_transformation_mode = \"{}\"> ({operands})",
            self.rounding, self.coordinates
        );
        let text = model(
            &format!("{}[{}] x", self.dtype, list(self.dims)),
            &format!("{}[{}] y", self.dtype, list([n, c, out[0], out[1]])),
            &constants,
            &nodes,
        );
        let x = match self.dtype {
            "float" => numbers.tensor(&self.dims),
            _ => {
                let len = self.dims.iter().product();
                let bytes: Vec<u8> = (0..len).map(|_| numbers.below(256) as u8).collect();
                Tensor::from_vec(&self.dims[..], bytes).expect("as many elements")
            }
        };
        check(&text, &[Some(x)], 0.0);
    }
}

fn nearest() -> impl Strategy<Value = Nearest> {
    let dims = [1..3usize, 1..20usize, 1..9usize, 1..9usize];
    let modes = (
        prop::sample::select(vec!["float", "uint8"]),
        prop::sample::select(vec!["asymmetric", "half_pixel", "align_corners"]),
        prop::sample::select(vec![
            "floor",
            "ceil",
            "round_prefer_floor",
            "round_prefer_ceil",
        ]),
    );
    let flags = (any::<bool>(), any::<bool>());
    (dims, [1..20usize, 1..20usize], flags, modes, any::<u64>()).prop_map(
        |(dims, to, (sizes, pooled), (dtype, coordinates, rounding), seed)| Nearest {
            dims,
            to,
            sizes,
            pooled: pooled && dtype == "uint8",
            dtype,
            coordinates,
            rounding,
            seed,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn recurrent_cells(node in recurrent()) {
        node.check();
    }

    #[test]
    fn dynamic_depthwise_convolutions(conv in depthwise()) {
        conv.check();
    }

    #[test]
    fn nearest_elements(node in nearest()) {
        node.check();
    }
}
