//! Random transposed convolutions. Their scales are powers of two, with which floats are exact: the reference, which has them
//! on floats only, gives exactly what products of codes must.

use std::fmt::Write;

use onnxq::tensor::Tensor;
use proptest::prelude::*;

use super::{Numbers, byte, check, list};

/// A transposed convolution of codes, all of whose numbers come from one seed.
#[derive(Clone, Debug)]
struct Transposed {
    images: usize,
    groups: usize,
    /// Channels of one group, of the operand and of the result.
    channels: [usize; 2],
    size: Vec<usize>,
    kernel: Vec<usize>,
    strides: Vec<usize>,
    dilations: Vec<usize>,
    pads: Vec<usize>,
    output_padding: Vec<usize>,
    same: bool,
    signed: [bool; 3],
    per_channel: bool,
    bias: bool,
    seed: u64,
}

impl Transposed {
    /// Whether anything comes out on each axis.
    fn has_output(&self) -> bool {
        (0..self.size.len()).all(|a| {
            let extent = (self.kernel[a] - 1) * self.dilations[a] + 1;
            let full = (self.size[a] - 1) * self.strides[a] + extent + self.output_padding[a];
            full > self.pads[a] + self.pads[self.size.len() + a]
        })
    }

    /// The model as text, and its input.
    fn make(&self) -> (String, Tensor) {
        let mut numbers = Numbers(self.seed);
        let [x_signed, w_signed, y_signed] = self.signed;
        let (inputs, outputs) = (
            self.channels[0] * self.groups,
            self.channels[1] * self.groups,
        );
        let dims = |first: [usize; 2], axes: &[usize]| [&first[..], axes].concat();
        let x_dims = dims([self.images, inputs], &self.size);
        let w_dims = dims([inputs, self.channels[1]], &self.kernel);
        let (scales, vector) = match self.per_channel {
            true => (self.channels[1], format!("[{}]", self.channels[1])),
            false => (1, String::new()),
        };
        let mut power = |least: i32| f64::from(least + numbers.below(5) as i32).exp2();
        let (xs, ys) = (power(-9), power(-5));
        let ws: Vec<f64> = (0..scales).map(|_| power(-9)).collect();
        let bs = (0..outputs).map(|c| xs * ws[c % self.channels[1] % scales]);
        let bs = list(bs.collect::<Vec<_>>());
        let w = list((0..w_dims.iter().product()).map(|_| numbers.code(w_signed)));
        let wz = list((0..scales).map(|_| if w_signed { 0 } else { numbers.code(false) }));
        let b = list((0..outputs).map(|_| numbers.below(20_000) as i64 - 10_000));
        let (xz, yz) = (numbers.code(x_signed), numbers.code(y_signed));
        let [xt, wt, yt] = [x_signed, w_signed, y_signed].map(byte);
        let mut attributes = format!(
            "group = {}, strides = [{}], dilations = [{}]",
            self.groups,
            list(&self.strides),
            list(&self.dilations)
        );
        let rest = match self.same {
            true => ", auto_pad = \"SAME_UPPER\"".to_owned(),
            false => format!(
                ", pads = [{}], output_padding = [{}]",
                list(&self.pads),
                list(&self.output_padding)
            ),
        };
        attributes += &rest;
        let mut bias = String::new();
        if self.bias {
            bias = ", fb".to_owned();
        }
        let mut text = format!(
            "<ir_version: 10, opset_import: [\"\": 21]>\n\
             main ({xt}[{}] x) => ({yt}[{}] y)\n\
             <{wt}[{}] w = {{{w}}}, float{vector} ws = {{{}}}, {wt}{vector} wz = {{{wz}}},\n\
             int32[{outputs}] b = {{{b}}}, float[{outputs}] bs = {{{bs}}},\n\
             float xs = {{{xs}}}, {xt} xz = {{{xz}}}, float ys = {{{ys}}}, {yt} yz = {{{yz}}}>\n{{\n",
            list(&x_dims),
            list(dims([self.images, outputs], &[0].repeat(self.size.len()))).replace(", 0", ", N"),
            list(&w_dims),
            list(&ws),
        );
        for line in [
            "fx = DequantizeLinear (x, xs, xz)",
            "fw = DequantizeLinear <axis = 1> (w, ws, wz)",
            "fb = DequantizeLinear <axis = 0> (b, bs)",
            &format!("c = ConvTranspose <{attributes}> (fx, fw{bias})"),
            "y = QuantizeLinear (c, ys, yz)",
        ] {
            writeln!(text, "{line}").expect("text grows");
        }
        text.push('}');
        let len = x_dims.iter().product();
        let bytes: Vec<u8> = (0..len).map(|_| numbers.below(256) as u8).collect();
        let x = match x_signed {
            true => Tensor::from_vec(&x_dims[..], bytes.into_iter().map(|b| b as i8).collect()),
            false => Tensor::from_vec(&x_dims[..], bytes),
        };
        (text, x.expect("a byte for each"))
    }
}

fn transposed() -> impl Strategy<Value = Transposed> {
    let axes = prop_oneof![1 => Just(1usize), 4 => Just(2usize)];
    let sizes = axes.prop_flat_map(|n| {
        (
            prop::collection::vec(1..9usize, n),
            prop::collection::vec(1..5usize, n),
            prop::collection::vec(1..5usize, n),
            prop_oneof![3 => Just(vec![1; n]), 1 => prop::collection::vec(1..4usize, n)],
            prop_oneof![
                Just(vec![0; 2 * n]),
                prop::collection::vec(0..3usize, 2 * n)
            ],
            prop_oneof![2 => Just(vec![0; n]), 1 => prop::collection::vec(0..4usize, n)],
        )
    });
    let channels = prop_oneof![
        (Just(1usize), 1..70usize, 1..40usize),
        (2..4usize, 1..6usize, 1..6usize),
        (2..20usize, Just(1usize), Just(1usize)),
    ];
    let flags = (
        any::<[bool; 3]>(),
        any::<[bool; 2]>(),
        prop::bool::weighted(0.1),
    );
    (1..3usize, sizes, channels, flags, any::<u64>()).prop_map(
        |(images, sizes, (groups, i, o), (signed, [per_channel, bias], same), seed)| {
            let (size, kernel, strides, dilations, pads, output_padding) = sizes;
            Transposed {
                images,
                groups,
                channels: [i, o],
                size,
                kernel,
                strides,
                dilations,
                pads,
                output_padding,
                same,
                signed,
                per_channel,
                bias,
                seed,
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn transposed_convolutions_of_codes(conv in transposed()) {
        if conv.same || conv.has_output() {
            let (text, x) = conv.make();
            check(&text, &[Some(x)]);
        }
    }
}
