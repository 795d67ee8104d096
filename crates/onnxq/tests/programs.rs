//! Random convolutions and products, compiled, against the reference, bit for bit.

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

/// Compiles the model for every tier, and with two threads; checks each against the reference.
fn check(text: &str, given: &[Option<Tensor>]) {
    let model = onnxq::parse(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let tiers = Cpu::available()
        .map(|cpu| (cpu, 1))
        .chain([(Cpu::detect(), 2)]);
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
