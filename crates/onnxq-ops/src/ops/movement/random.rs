//! Random tensors. Their types are inferred; they are not evaluated, since nothing here depends
//! on chance.

use onnxq_ir::{self as ir, Attr};
use onnxq_tensor::{DType, Dim};

use crate::{InferContext, Operator, Unknown};

/// Where the shape comes from.
enum Source {
    /// The attribute `shape`.
    Attribute,
    /// Operand 0.
    Operand,
    /// Operand 0, with `sample_size` as its second dimension.
    Samples,
}

struct Random {
    name: &'static str,
    since: &'static [i64],
    source: Source,
    /// The element type where no attribute says; `None` is that of operand 0.
    default: Option<DType>,
}

#[rustfmt::skip]
pub(crate) static OPERATORS: &[&dyn Operator] = &[
    &Random { name: "RandomNormal", since: &[1, 22], source: Source::Attribute, default: Some(DType::F32) },
    &Random { name: "RandomUniform", since: &[1, 22], source: Source::Attribute, default: Some(DType::F32) },
    &Random { name: "RandomNormalLike", since: &[1, 22], source: Source::Operand, default: None },
    &Random { name: "RandomUniformLike", since: &[1, 22], source: Source::Operand, default: None },
    &Random { name: "Bernoulli", since: &[15, 22], source: Source::Operand, default: None },
    &Random { name: "Multinomial", since: &[7, 22], source: Source::Samples, default: Some(DType::I32) },
];

impl Random {
    fn dtype(&self, op: &ir::Op) -> Option<DType> {
        let code = op.attr("dtype").and_then(Attr::as_int);
        match code {
            Some(code) => DType::from_onnx(i32::try_from(code).ok()?),
            None => self.default,
        }
    }
}

impl Operator for Random {
    fn name(&self) -> &'static str {
        self.name
    }

    fn since(&self) -> &'static [i64] {
        self.since
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let dtype = match self.dtype(cx.op()) {
            Some(dtype) => dtype,
            None => cx.dtype(0)?,
        };
        cx.set_dtype(0, dtype);
        let shape = match self.source {
            Source::Attribute => {
                let dims = cx.op().ints("shape").unwrap_or_default();
                dims.iter().map(|&d| Dim::known(d)).collect()
            }
            Source::Operand => cx.shape(0)?.clone(),
            Source::Samples => {
                let samples = Dim::known(cx.op().int("sample_size", 1));
                let batch = cx.shape(0)?.first().cloned().unwrap_or_default();
                [batch, samples].into_iter().collect()
            }
        };
        cx.set_tensor(0, dtype, shape);
        Ok(())
    }
}
