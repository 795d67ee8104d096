//! Parameters of kernels as expressions.

use onnxq_kernels::{
    Activation, Average, Binary, Combine, Geometry, Quantize, Quantized, Softmax, Unary, Window,
};

use super::{Expr, expr::Literal, record};

impl From<Quantize> for Expr {
    fn from(q: Quantize) -> Expr {
        record!(Quantize {
            scale: q.scale,
            zero: q.zero,
            bounds: q.bounds,
        })
    }
}

impl From<Quantized> for Expr {
    fn from(q: Quantized) -> Expr {
        record!(Quantized {
            scale: q.scale,
            zero: q.zero,
            signed: q.signed,
        })
    }
}

impl From<Window> for Expr {
    fn from(w: Window) -> Expr {
        record!(Window {
            kernel: w.kernel,
            strides: w.strides,
            dilations: w.dilations,
            pads: w.pads,
        })
    }
}

impl From<Average> for Expr {
    fn from(average: Average) -> Expr {
        let padding = match average.padding {
            None => "None".to_owned(),
            Some([below, right]) => format!("Some([{below}, {right}])"),
        };
        record!(Average {
            from: average.from,
            to: average.to,
            padding: padding,
            zero_first: average.zero_first,
        })
    }
}

impl From<&Geometry> for Expr {
    fn from(g: &Geometry) -> Expr {
        if g.runs == 1 && g.segments == [1, 1] {
            let sizes = vec![g.run_len.into(), g.depth.into(), g.row_stride.into()];
            return Expr::Call("Geometry::matrix".to_owned(), sizes);
        }
        record!(Geometry {
            runs: g.runs,
            run_len: g.run_len,
            run_stride: g.run_stride,
            row_stride: g.row_stride,
            segments: g.segments,
            segment_strides: g.segment_strides,
            depth: g.depth,
        })
    }
}

impl From<Activation> for Expr {
    fn from(activation: Activation) -> Expr {
        Expr::Text(match activation {
            Activation::Clamp(low, high) => {
                format!("Activation::Clamp({}, {})", low.literal(), high.literal())
            }
            named => format!("Activation::{named:?}"),
        })
    }
}

impl From<Unary> for Expr {
    fn from(unary: Unary) -> Expr {
        let one = |name: &str, x: f32| format!("Unary::{name}({})", x.literal());
        Expr::Text(match unary {
            Unary::Activation(activation) => {
                format!("Unary::Activation({})", Expr::from(activation))
            }
            Unary::Affine { scale, shift } => {
                let fields = vec![("scale", scale.into()), ("shift", shift.into())];
                return Expr::Struct("Unary::Affine", fields);
            }
            Unary::HardSigmoid { alpha, beta } => {
                let fields = vec![("alpha", alpha.into()), ("beta", beta.into())];
                return Expr::Struct("Unary::HardSigmoid", fields);
            }
            Unary::Selu { alpha, gamma } => {
                let fields = vec![("alpha", alpha.into()), ("gamma", gamma.into())];
                return Expr::Struct("Unary::Selu", fields);
            }
            Unary::LeakyRelu(x) => one("LeakyRelu", x),
            Unary::ThresholdedRelu(x) => one("ThresholdedRelu", x),
            Unary::Elu(x) => one("Elu", x),
            Unary::Celu(x) => one("Celu", x),
            Unary::Swish(x) => one("Swish", x),
            named => format!("Unary::{named:?}"),
        })
    }
}

impl From<Binary> for Expr {
    fn from(binary: Binary) -> Expr {
        Expr::Text(format!("Binary::{binary:?}"))
    }
}

impl From<Combine> for Expr {
    fn from(combine: Combine) -> Expr {
        Expr::Text(format!("Combine::{combine:?}"))
    }
}

impl From<Softmax> for Expr {
    fn from(softmax: Softmax) -> Expr {
        Expr::Text(format!("Softmax::{softmax:?}"))
    }
}
