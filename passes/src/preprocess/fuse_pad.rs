//! Makes padding an attribute of the convolution or pooling behind it.
//!
//! ```text
//! y = Conv(Pad(x, pads), W, b)   =>   y = Conv <pads> (x, W, b)
//! ```
//!
//! Likewise for `AveragePool`, which then counts the padding (`count_include_pad`), and for
//! `MaxPool`, whose own padding is never the maximum: where `Pad` fills with minus infinity, or
//! with zero and `x` is known not to be negative.
//!
//! Does not fire
//! - where `Pad` fills with anything else, does not fill with a constant, pads batch or channels,
//!   crops, or how much it pads is no constant;
//! - where the padded value has another use, a result of the graph included;
//! - where `auto_pad` computes padding from the shape, or existing padding is negative;
//! - for `AveragePool` that has padding which it does not count;
//! - for pooling with `ceil_mode`, where a window that begins in its own padding is dropped, or
//!   with padding as large as the window, in which a window might see nothing else; for `MaxPool`
//!   with dilation (for the same reason), or that also returns indices, which would shift.

use onnxq_ir::{NodeId, ValueId};
use onnxq_pass::{PassInfo, Rewrite, Rewriter, rewrites};

pub(crate) const INFO: PassInfo = PassInfo {
    name: "fuse-pad",
    summary: "make Pad an attribute of the Conv or pooling behind it",
    options: &[],
    build: |_| rewrites("fuse-pad", REWRITES),
};

const REWRITES: &[Rewrite] = &[Rewrite {
    name: "fuse-pad",
    apply: fuse_pad,
}];

/// `Conv(Pad(x, pads), W, b)` => `Conv <pads> (x, W, b)`
fn fuse_pad(rw: &mut Rewriter<'_>, n: NodeId) -> Option<()> {
    let window = Window::new(rw, n)?;
    let padded = rw.operand(n, 0)?;
    let pad = rw.producer(padded, "Pad")?;
    if rw.sole_use(padded).is_none() {
        return rw.miss(n, "the padded value has another use");
    }
    let Some(padding) = Padding::new(rw, pad, window.spatial + 2) else {
        return rw.miss(n, "Pad does not fill the borders with a constant");
    };
    if let Err(why) = window.allows(rw, n, &padding) {
        return rw.miss(n, why);
    }
    let pads: Vec<i64> = window
        .pads
        .iter()
        .zip(&padding.pads)
        .map(|(a, b)| a + b)
        .collect();
    if window.kind == WindowKind::AveragePool {
        rw.set_attr(n, "count_include_pad", 1);
    }
    rw.set_attr(n, "pads", pads);
    rw.op_mut(n)?.attrs.shift_remove("auto_pad");
    rw.set_operand(n, 0, Some(padding.x));
    Some(())
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum WindowKind {
    Conv,
    AveragePool,
    MaxPool,
}

/// An operator that slides a window over its input.
struct Window {
    kind: WindowKind,
    /// The number of axes that the window has.
    spatial: usize,
    /// Begin of each axis, then end of each.
    pads: Vec<i64>,
}

impl Window {
    fn new(rw: &Rewriter<'_>, n: NodeId) -> Option<Window> {
        let op = rw.op(n).filter(|op| op.domain.is_empty())?;
        let kind = match op.op_type.as_str() {
            "Conv" => WindowKind::Conv,
            "AveragePool" => WindowKind::AveragePool,
            "MaxPool" => WindowKind::MaxPool,
            _ => return None,
        };
        let spatial = match (op.ints("kernel_shape"), kind) {
            (Some(kernel), _) => kernel.len(),
            (None, WindowKind::Conv) => rw.shape(rw.operand(n, 1)?)?.len().checked_sub(2)?,
            (None, _) => return None,
        };
        let pads = op
            .ints("pads")
            .map_or(vec![0; 2 * spatial], <[i64]>::to_vec);
        (pads.len() == 2 * spatial).then_some(Window {
            kind,
            spatial,
            pads,
        })
    }

    /// Whether the operator at `n` may pad by itself, else why not.
    fn allows(&self, rw: &Rewriter<'_>, n: NodeId, padding: &Padding) -> Result<(), &'static str> {
        match rw.attr_str(n, "auto_pad", "NOTSET").as_str() {
            "NOTSET" => {}
            "VALID" if self.pads.iter().all(|&p| p == 0) => {}
            _ => return Err("padding is computed from the shape"),
        }
        if self.pads.iter().any(|&p| p < 0) {
            return Err("the operator crops");
        }
        let zero = padding.value == 0.0;
        match self.kind {
            WindowKind::Conv if !zero => Err("Pad does not fill with zero"),
            WindowKind::Conv => Ok(()),
            WindowKind::AveragePool => {
                let counts = rw.attr_int(n, "count_include_pad", 0) != 0;
                if !zero {
                    return Err("Pad does not fill with zero");
                }
                if rw.opset() < 7 || (!counts && self.pads.iter().any(|&p| p != 0)) {
                    return Err("AveragePool does not count its padding");
                }
                self.reaches_input(rw, n, padding)
            }
            WindowKind::MaxPool => {
                let least = padding.value == f64::NEG_INFINITY;
                let fits = least || (zero && is_nonnegative(rw, padding.x));
                if !fits {
                    return Err("what Pad fills with might be a maximum");
                }
                if rw.graph().node(n).results.len() > 1 && rw.graph().is_used(rw.result(n, 1)) {
                    return Err("MaxPool returns indices too");
                }
                if rw.attr_ints(n, "dilations", &[]).iter().any(|&d| d != 1) {
                    return Err("the window is dilated");
                }
                self.reaches_input(rw, n, padding)
            }
        }
    }

    /// Whether every window has an element of the input in it.
    fn reaches_input(
        &self,
        rw: &Rewriter<'_>,
        n: NodeId,
        padding: &Padding,
    ) -> Result<(), &'static str> {
        if rw.attr_int(n, "ceil_mode", 0) != 0 {
            return Err("windows over the border are cut with ceil_mode");
        }
        let kernel = rw.attr_ints(n, "kernel_shape", &[]);
        let total = self.pads.iter().zip(&padding.pads).map(|(a, b)| a + b);
        let inside = total.zip(kernel.iter().cycle()).all(|(p, &k)| p < k);
        inside
            .then_some(())
            .ok_or("the padding is as large as the window")
    }
}

/// What a `Pad` does to the spatial axes.
struct Padding {
    x: ValueId,
    /// Begin of each axis, then end of each.
    pads: Vec<i64>,
    value: f64,
}

/// More is no padding; sums of such numbers do not overflow.
const MAX_PAD: i64 = 1 << 32;

impl Padding {
    /// The `Pad` at `n` of a value of this rank, if it fills borders of spatial axes only.
    fn new(rw: &Rewriter<'_>, n: NodeId, rank: usize) -> Option<Padding> {
        if rw.attr_str(n, "mode", "constant") != "constant" {
            return None;
        }
        let (given, value) = if rw.opset() < 11 {
            let given = rw.op(n)?.ints("pads")?.to_vec();
            (given, f64::from(rw.attr_float(n, "value", 0.0)))
        } else {
            let value = match rw.operand(n, 2) {
                None => 0.0,
                Some(v) => rw.constant(v)?.scalar_f64().ok()?,
            };
            (rw.constant(rw.operand(n, 1)?)?.to_i64s().ok()?, value)
        };
        let axes = match rw.operand(n, 3) {
            None => (0..rank as i64).collect(),
            Some(axes) => rw.constant(axes)?.to_i64s().ok()?,
        };
        if given.len() != 2 * axes.len() {
            return None;
        }
        let spatial = rank.checked_sub(2)?;
        let mut pads = vec![0; 2 * spatial];
        for (&axis, (&begin, &end)) in axes.iter().zip(given.iter().zip(&given[axes.len()..])) {
            let axis = if axis < 0 { axis + rank as i64 } else { axis };
            let bounds = 0..=MAX_PAD;
            if !bounds.contains(&begin) || !bounds.contains(&end) {
                return None;
            }
            match usize::try_from(axis).ok()? {
                0 | 1 if begin == 0 && end == 0 => {}
                axis if (2..rank).contains(&axis) => {
                    pads[axis - 2] = begin;
                    pads[axis - 2 + spatial] = end;
                }
                _ => return None,
            }
        }
        Some(Padding {
            x: rw.operand(n, 0)?,
            pads,
            value,
        })
    }
}

/// Whether `v` is the result of an operator that gives no negative numbers.
fn is_nonnegative(rw: &Rewriter<'_>, v: ValueId) -> bool {
    let Some(op) = rw.op(v.node).filter(|op| op.domain.is_empty()) else {
        return false;
    };
    match op.op_type.as_str() {
        "Relu" | "Sigmoid" | "HardSigmoid" | "Softmax" | "Abs" | "Exp" | "Sqrt" | "Softplus" => {
            true
        }
        "Clip" if rw.opset() < 11 => op.float("min", f32::MIN) >= 0.0,
        "Clip" => (rw.operand(v.node, 1))
            .and_then(|min| rw.constant(min)?.scalar_f64().ok())
            .is_some_and(|min| min >= 0.0),
        _ => false,
    }
}
