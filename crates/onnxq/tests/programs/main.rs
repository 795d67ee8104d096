//! Random convolutions and products, compiled, against the reference, bit for bit.

mod joined;
mod resized;
mod transposed;

use std::fmt::Write;

use onnxq::{CompileOptions, Cpu, Executor, Memory, compile, tensor::Tensor};
use proptest::prelude::*;

/// A convolution of codes, all of whose numbers come from one seed.
#[derive(Clone, Debug)]
struct Conv {
    images: usize,
    groups: usize,
    /// Channels of one group, of the operand and of the result.
    channels: [usize; 2],
    size: Vec<usize>,
    kernel: Vec<usize>,
    strides: Vec<usize>,
    dilations: Vec<usize>,
    pads: Vec<usize>,
    signed: [bool; 3],
    per_channel: bool,
    bias: bool,
    adds: bool,
    seed: u64,
}

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

    fn code(&mut self, signed: bool) -> i64 {
        self.below(256) as i64 - if signed { 128 } else { 0 }
    }

    fn scale(&mut self) -> f32 {
        (self.below(900) + 100) as f32 * 1e-5
    }
}

fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|i| i.to_string()).collect();
    items.join(", ")
}

fn byte(signed: bool) -> &'static str {
    if signed { "int8" } else { "uint8" }
}

impl Conv {
    fn output(&self) -> Option<Vec<usize>> {
        let axes = self.size.len();
        (0..axes)
            .map(|a| {
                let reach = (self.kernel[a] - 1) * self.dilations[a] + 1;
                let room =
                    (self.size[a] + self.pads[a] + self.pads[axes + a]).checked_sub(reach)?;
                Some(room / self.strides[a] + 1)
            })
            .collect()
    }

    /// The model as text, and its inputs.
    fn make(&self) -> Option<(String, Vec<Option<Tensor>>)> {
        let output = self.output()?;
        let mut numbers = Numbers(self.seed);
        let [x_signed, w_signed, y_signed] = self.signed;
        let (inputs, outputs) = (
            self.channels[0] * self.groups,
            self.channels[1] * self.groups,
        );
        let x_dims: Vec<usize> = [self.images, inputs]
            .into_iter()
            .chain(self.size.clone())
            .collect();
        let y_dims: Vec<usize> = [self.images, outputs].into_iter().chain(output).collect();
        let w_dims: Vec<usize> = [outputs, self.channels[0]]
            .into_iter()
            .chain(self.kernel.clone())
            .collect();
        let w_len: usize = w_dims.iter().product();
        let scales = if self.per_channel { outputs } else { 1 };
        let mut constants = String::new();
        let w = list((0..w_len).map(|_| numbers.code(w_signed)));
        writeln!(
            constants,
            "<{}[{}] w = {{{w}}},",
            byte(w_signed),
            list(&w_dims)
        )
        .ok()?;
        let ws = list((0..scales).map(|_| numbers.scale()));
        let wz = list((0..scales).map(|_| if w_signed { 0 } else { numbers.code(false) }));
        let vector = if self.per_channel {
            format!("[{outputs}]")
        } else {
            String::new()
        };
        writeln!(
            constants,
            "float{vector} ws = {{{ws}}}, {}{vector} wz = {{{wz}}},",
            byte(w_signed)
        )
        .ok()?;
        let bias = list((0..outputs).map(|_| numbers.below(20_000) as i64 - 10_000));
        writeln!(constants, "int32[{outputs}] b = {{{bias}}},").ok()?;
        for (name, signed) in [
            ("x", x_signed),
            ("y", y_signed),
            ("o", y_signed),
            ("s", y_signed),
        ] {
            let (scale, zero) = (numbers.scale() * 20.0, numbers.code(signed));
            writeln!(
                constants,
                "float {name}s = {{{scale}}}, {} {name}z = {{{zero}}},",
                byte(signed)
            )
            .ok()?;
        }
        let constants = constants.trim_end().trim_end_matches(',');
        let attributes = format!(
            "group = {}, kernel_shape = [{}], strides = [{}], dilations = [{}], pads = [{}]",
            self.groups,
            list(&self.kernel),
            list(&self.strides),
            list(&self.dilations),
            list(&self.pads)
        );
        let bias = if self.bias { ", b" } else { "" };
        let conv = format!("c = QLinearConv <{attributes}> (x, xs, xz, w, ws, wz, ys, yz{bias})");
        let (other, rest) = match self.adds {
            false => (String::new(), "y = Identity (c)".to_owned()),
            true => (
                format!(", {}[{}] o", byte(y_signed), list(&y_dims)),
                "y = com.microsoft.QLinearAdd (o, os, oz, c, ys, yz, ss, sz)".to_owned(),
            ),
        };
        let text = format!(
            "<ir_version: 10, opset_import: [\"\": 21, \"com.microsoft\": 1]>\n\
             main ({}[{}] x{other}) => ({}[{}] y)\n{constants}>\n{{\n{conv}\n{rest}\n}}",
            byte(x_signed),
            list(&x_dims),
            byte(y_signed),
            list(&y_dims),
        );
        let mut tensor = |dims: &[usize], signed: bool| {
            let len = dims.iter().product();
            let bytes: Vec<u8> = (0..len).map(|_| numbers.below(256) as u8).collect();
            Some(match signed {
                true => {
                    Tensor::from_vec(dims, bytes.into_iter().map(|b| b as i8).collect()).ok()?
                }
                false => Tensor::from_vec(dims, bytes).ok()?,
            })
        };
        let mut given = vec![tensor(&x_dims, x_signed)];
        if self.adds {
            given.push(tensor(&y_dims, y_signed));
        }
        Some((text, given))
    }
}

fn conv() -> impl Strategy<Value = Conv> {
    let axes = prop_oneof![1 => Just(1usize), 4 => Just(2usize)];
    let sizes = axes.prop_flat_map(|n| {
        (
            prop::collection::vec(1..14usize, n),
            prop::collection::vec(1..5usize, n),
            prop::collection::vec(1..4usize, n),
            prop_oneof![3 => Just(vec![1; n]), 1 => prop::collection::vec(1..4usize, n)],
            prop::collection::vec(0..3usize, 2 * n),
        )
    });
    let channels = prop_oneof![
        // Dense, grouped, depthwise.
        (Just(1usize), 1..70usize, 1..40usize),
        (2..4usize, 1..6usize, 1..6usize),
        (2..70usize, Just(1usize), Just(1usize)),
    ];
    let flags = (
        any::<[bool; 3]>(),
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
    );
    (1..3usize, sizes, channels, flags, any::<u64>()).prop_map(
        |(images, (size, kernel, strides, dilations, pads), (groups, i, o), flags, seed)| {
            let (signed, per_channel, bias, adds) = flags;
            Conv {
                images,
                groups,
                channels: [i, o],
                size,
                kernel,
                strides,
                dilations,
                pads,
                signed,
                per_channel,
                bias,
                adds,
                seed,
            }
        },
    )
}

/// Compiles the model for every tier, and with two and three threads; checks each against the reference.
fn check(text: &str, given: &[Option<Tensor>]) {
    let model = onnxq::parse(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let tiers = Cpu::available()
        .map(|cpu| (cpu, 1))
        .chain([(Cpu::detect(), 2), (Cpu::detect(), 3)]);
    let mut expected = None;
    for (cpu, threads) in tiers {
        let options = CompileOptions {
            cpu,
            threads,
            ..CompileOptions::default()
        };
        let program = compile(&model, &options).unwrap_or_else(|e| panic!("{e}\n{text}"));
        assert!(
            program.steps().all(|step| !step.by_reference),
            "a step without a kernel"
        );
        let expected = expected.get_or_insert_with(|| {
            Executor::new(program.model())
                .run(given)
                .unwrap_or_else(|e| panic!("{e}\n{text}"))
        });
        let got = program
            .run(&mut Memory::new(), given)
            .unwrap_or_else(|e| panic!("{e}\n{text}"));
        for (got, expected) in got.iter().zip(&*expected) {
            assert_eq!(got.dims(), expected.dims());
            assert_eq!(
                got.bytes(),
                expected.bytes(),
                "{} with {threads} threads",
                cpu.isa()
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn convolutions_of_codes(conv in conv()) {
        if let Some((text, given)) = conv.make() {
            check(&text, &given);
        }
    }
}

/// Few rows of many columns, which threads share.
#[test]
fn convolutions_of_few_rows() {
    for (adds, groups, strides) in [(false, 1, 1), (true, 1, 1), (true, 2, 2)] {
        let conv = Conv {
            images: 2,
            groups,
            channels: [128, 300],
            size: vec![7, 6],
            kernel: vec![3, 3],
            strides: vec![strides; 2],
            dilations: vec![1; 2],
            pads: vec![1; 4],
            signed: [false, true, groups == 2],
            per_channel: true,
            bias: true,
            adds,
            seed: 5,
        };
        let (text, given) = conv.make().expect("a convolution with an output");
        check(&text, &given);
    }
}

/// Images that are worth several threads, each of which pads the rows that it needs.
#[test]
fn convolutions_of_large_images() {
    for (strides, dilations, pads, size) in [
        ([1, 1], [1, 1], [1, 1, 1, 1], [40, 37]),
        ([2, 1], [1, 1], [1, 0, 0, 1], [61, 30]),
        ([3, 2], [2, 1], [0, 2, 2, 0], [80, 50]),
        // Rows of the image that nobody reads.
        ([5, 1], [1, 1], [1, 1, 1, 1], [190, 40]),
    ] {
        let conv = Conv {
            images: 2,
            groups: 1,
            channels: [48, 64],
            size: size.to_vec(),
            kernel: vec![3, 3],
            strides: strides.to_vec(),
            dilations: dilations.to_vec(),
            pads: pads.to_vec(),
            signed: [false, true, false],
            per_channel: true,
            bias: true,
            adds: strides[0] == 2,
            seed: 7,
        };
        let (text, given) = conv.make().expect("a convolution with an output");
        check(&text, &given);
    }
}

/// What the dynamic quantization of other tools looks like: the sums are cast and multiplied.
#[test]
fn products_that_are_cast_and_multiplied() {
    let text = r#"<ir_version: 8, opset_import: ["": 13]>
        main (float[3, 4] x, float[1, 2, 5, 5] i) => (float[3, 2] y, float[3, 2] z, float[1, 3, 3, 3] c)
        <int8[4, 2] w = {1, -2, 3, -4, 5, -6, 7, -8}, int8[4, 2] v = {9, 2, 8, 3, 7, 4, 6, 5}, float ws = {0.02}, float[2] wv = {0.02, 0.03},
         uint8[3, 2, 3, 3] k = {1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15, 16, 17, 18, 19,
            21, 22, 23, 24, 25, 26, 27, 28, 29, 31, 32, 33, 34, 35, 36, 37, 38, 39,
            41, 42, 43, 44, 45, 46, 47, 48, 49, 51, 52, 53, 54, 55, 56, 57, 58, 59}, uint8 kz = {30}>
        {
            q, s, zero = DynamicQuantizeLinear (x)
            scale = Mul (s, ws)
            scales = Mul (s, wv)
            a = MatMulInteger (q, w, zero)
            fa = Cast <to = 1> (a)
            y = Mul (fa, scale)
            b = MatMulInteger (q, v, zero)
            fb = Cast <to = 1> (b)
            z = Mul (scales, fb)
            qi, si, zi = DynamicQuantizeLinear (i)
            sums = ConvInteger (qi, k, zi, kz)
            fc = Cast <to = 1> (sums)
            sc = Mul (si, ws)
            c = Mul (fc, sc)
        }"#;
    let mut numbers = Numbers(5);
    let mut floats = |dims: &[usize]| {
        let len = dims.iter().product();
        let values = (0..len).map(|_| numbers.below(2000) as f32 / 1000.0 - 1.0);
        Some(Tensor::from_vec(dims, values.collect()).unwrap())
    };
    let given = [floats(&[3, 4]), floats(&[1, 2, 5, 5])];
    let model = onnxq::parse(text).unwrap();
    let expected = Executor::new(&model).run(&given).unwrap();
    let program = compile(&model, &CompileOptions::default()).unwrap();
    assert!(program.steps().all(|step| !step.by_reference));
    let got = program.run(&mut Memory::new(), &given).unwrap();
    for (got, expected) in got.iter().zip(&expected) {
        assert_eq!(got.bytes(), expected.bytes());
    }
}

/// Three convolutions, the last of which has the result of the first added.
fn residual(channels: usize, outputs: &str) -> String {
    let mut numbers = Numbers(9);
    let mut weights = || list((0..channels * channels).map(|_| numbers.code(true) / 8));
    let (v, w) = (weights(), weights());
    let dims = format!("uint8[1, {channels}, 5, 7]");
    format!(
        r#"<ir_version: 10, opset_import: ["": 21, "com.microsoft": 1]>
        main ({dims} x) => ({outputs})
        <int8[{channels}, {channels}, 1, 1] v = {{{v}}}, int8[{channels}, {channels}, 1, 1] w = {{{w}}},
         float s = {{0.02}}, uint8 z = {{117}}, float ws = {{0.01}}, int8 wz = {{0}}, float t = {{0.031}}, uint8 tz = {{3}}>
        {{
            r = QLinearConv (x, s, z, v, ws, wz, s, z)
            m = QLinearConv (r, s, z, w, ws, wz, s, z)
            c = QLinearConv (m, s, z, v, ws, wz, s, z)
            y = com.microsoft.QLinearAdd (c, s, z, r, s, z, t, tz)
        }}"#
    )
}

/// The parameters of the step with such a kernel.
fn parameters_of(text: &str, kernel: &str) -> Vec<String> {
    let model = onnxq::parse(text).expect("a model");
    let program = compile(&model, &CompileOptions::default()).expect("a program");
    let source = program.source().expect("steps of codes");
    let step = source.steps.iter().find(|s| s.kernel.starts_with(kernel));
    let step = step.unwrap_or_else(|| panic!("no step {kernel}"));
    step.parameters.iter().map(|p| p.name.clone()).collect()
}

#[test]
fn a_sum_takes_the_place_of_what_nobody_else_reads() {
    for channels in [24, 64, 100] {
        let dims = format!("uint8[1, {channels}, 5, 7]");
        let (alone, both) = (format!("{dims} y"), format!("{dims} y, {dims} r"));
        let mut numbers = Numbers(1);
        let x = (0..channels * 35).map(|_| numbers.below(256) as u8);
        let given = [Tensor::from_vec(vec![1, channels, 5, 7], x.collect()).ok()];
        for outputs in [&alone, &both] {
            check(&residual(channels, outputs), &given);
        }
        // 24 columns are too few of a line for sums on the way to bytes.
        let taken = channels > 24;
        let parameters = parameters_of(&residual(channels, &alone), "conv+add");
        assert_eq!(
            !parameters.contains(&"other".to_owned()),
            taken,
            "{channels}"
        );
        let parameters = parameters_of(&residual(channels, &both), "conv+add");
        assert!(parameters.contains(&"other".to_owned()), "{channels}");
    }
}

/// The bias of a quantized Linear is a sum with one row; one of its operands is the result.
#[test]
fn rows_are_added_to_matrix_products() {
    for (columns, rows) in [(24, 5), (96, 5), (130, 70), (128, 1)] {
        for (other, dims) in [
            ("bias", vec![columns]),
            ("bias", vec![1, 1, columns]),
            ("o", vec![1, rows, columns]),
        ] {
            let mut numbers = Numbers(columns as u64);
            let w = list((0..40 * columns).map(|_| numbers.code(true)));
            let b = list((0..columns).map(|_| numbers.code(false)));
            let bias = if other == "bias" {
                &dims
            } else {
                &vec![columns]
            };
            let text = format!(
                r#"<ir_version: 10, opset_import: ["": 21, "com.microsoft": 1]>
                main (uint8[1, {rows}, 40] x, uint8[1, {rows}, {columns}] o) => (uint8[1, {rows}, {columns}] y)
                <int8[40, {columns}] w = {{{w}}}, uint8[{}] bias = {{{b}}}, float s = {{0.02}}, uint8 z = {{117}},
                 float ws = {{0.002}}, int8 wz = {{0}}, float t = {{0.027}}, uint8 tz = {{130}}>
                {{
                    m = QLinearMatMul (x, s, z, w, ws, wz, s, z)
                    y = com.microsoft.QLinearAdd ({other}, t, z, m, s, z, t, tz)
                }}"#,
                list(bias)
            );
            let mut tensor = |width: usize| {
                let bytes = (0..rows * width).map(|_| numbers.below(256) as u8);
                Tensor::from_vec(vec![1, rows, width], bytes.collect()).ok()
            };
            let given = [tensor(40), tensor(columns)];
            check(&text, &given);
            let parameters = parameters_of(&text, "matmul+add");
            assert!(parameters.contains(&"other".to_owned()));
        }
    }
}
