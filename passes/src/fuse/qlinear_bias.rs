//! The bias of a product of codes: `int32`, at the scale of the sums.

use onnxq_ir::{NodeId, ValueId};
use onnxq_pass::Rewriter;
use onnxq_tensor::{DType, Dims, Tensor};

use super::qdq::{self, Dequantized, Quantized};

/// How much of a step of the result a bias may move by when it is rounded to a code. Rounding
/// the result moves it by up to half a step.
const MOST: f64 = 1.0 / 32.0;

/// What a bias is added to.
pub(super) struct Bias {
    /// The scale of the operand that is not the weight.
    x_scale: f32,
    w_scales: Vec<f32>,
    /// The scale of the result; infinite where that is float.
    y_scale: f32,
    /// What else the sums are multiplied with.
    alpha: f32,
    /// What the bias is multiplied with.
    beta: f32,
}

/// A bias as an operand.
pub(super) enum Codes {
    /// It is there.
    Is(ValueId),
    /// It is new.
    New(String, Tensor),
}

impl Bias {
    /// The bias of a product of `x` and `w`, quantized as `y`. The parameters are those that
    /// operators on codes take.
    pub(super) fn of(x: &Dequantized, w: &Dequantized, y: &Quantized) -> Option<Bias> {
        Bias::at(x, w, *y.params.scales()?.first()?)
    }

    /// The same for a result with this step.
    pub(super) fn at(x: &Dequantized, w: &Dequantized, y_scale: f32) -> Option<Bias> {
        Some(Bias {
            x_scale: *x.params.scales()?.first()?,
            w_scales: w.params.scales()?,
            y_scale,
            alpha: 1.0,
            beta: 1.0,
        })
    }

    /// The same where the product is multiplied with `alpha`, and the bias with `beta`.
    pub(super) fn times(self, alpha: f32, beta: f32) -> Bias {
        Bias {
            alpha,
            beta,
            ..self
        }
    }

    /// The scales of the sums, as operators on codes compute them.
    fn scales(&self) -> Vec<f32> {
        let scale = |w: &f32| self.alpha * (self.x_scale * w);
        self.w_scales.iter().map(scale).collect()
    }
}

impl Codes {
    /// The operand.
    pub(super) fn insert(self, rw: &mut Rewriter<'_>) -> ValueId {
        match self {
            Codes::Is(v) => v,
            Codes::New(name, tensor) => rw.insert_constant(name, tensor),
        }
    }
}

/// The bias `b` of `n` in codes, with a dimension less than two.
pub(super) fn read(
    rw: &mut Rewriter<'_>,
    n: NodeId,
    b: ValueId,
    bias: Option<Bias>,
) -> Option<Codes> {
    let bias = bias?;
    let scales = bias.scales();
    let quantized = qdq::dequantized(rw, b).filter(|b| b.params.qtype == DType::I32);
    if let Some(b) = &quantized {
        let as_written = b.params.scales()? == scales
            && b.params.zeros()?.iter().all(|&z| z == 0)
            && bias.beta == 1.0;
        if as_written {
            return Some(Codes::Is(b.codes));
        }
    }
    let Some((name, values, dims)) = reals(rw, b, quantized.as_ref()) else {
        rw.miss(n, "the bias is not constant")?;
        return None;
    };
    let mut codes = Vec::with_capacity(values.len());
    for (i, &value) in values.iter().enumerate() {
        let scale = f64::from(if scales.len() == 1 {
            scales[0]
        } else {
            *scales.get(i)?
        });
        let value = value * f64::from(bias.beta);
        let code = (value / scale).round_ties_even();
        if !(f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(&code) {
            rw.miss(n, "the bias does not fit into int32")?;
        }
        if (code * scale - value).abs() > MOST * f64::from(bias.y_scale) {
            rw.miss(n, "the sums are too coarse for the bias")?;
        }
        codes.push(code as i32);
    }
    let tensor = Tensor::from_vec(dims, codes).ok()?;
    Some(Codes::New(format!("{name}_quantized"), tensor))
}

/// The name, numbers and shape of a constant bias.
fn reals(
    rw: &Rewriter<'_>,
    b: ValueId,
    quantized: Option<&Dequantized>,
) -> Option<(String, Vec<f64>, Dims)> {
    let Some(q) = quantized else {
        let tensor = rw.constant(b).filter(|t| t.dtype() == DType::F32)?;
        let values = tensor.to_f64s().ok()?.into_owned();
        return Some((
            rw.name(b).to_owned(),
            values,
            Dims::from_slice(tensor.dims()),
        ));
    };
    let codes = rw.constant(q.codes)?;
    let (scales, zeros) = (q.params.scales()?, q.params.zeros()?);
    if codes.rank() > 1 && scales.len() > 1 {
        return None;
    }
    let real = |(i, code): (usize, i64)| {
        let i = if scales.len() == 1 { 0 } else { i };
        Some(f64::from(*scales.get(i)?) * (code - zeros.get(i)?) as f64)
    };
    let values = codes.to_i64s().ok()?.into_iter().enumerate().map(real);
    let values = values.collect::<Option<Vec<f64>>>()?;
    Some((
        rw.name(b).to_owned(),
        values,
        Dims::from_slice(codes.dims()),
    ))
}
