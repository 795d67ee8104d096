//! Det: the determinants of square matrices, by elimination with pivots, in `f64`.

use onnxq_tensor::Shape;

use crate::{
    EvalContext, EvalError, InferContext, Operator, Unknown, Value,
    ops::numeric::{Real, product, real_tensor},
};

pub(super) struct Det;

impl Operator for Det {
    fn name(&self) -> &'static str {
        "Det"
    }

    fn since(&self) -> &'static [i64] {
        &[11, 22]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let dtype = cx.dtype(0)?;
        cx.set_dtype(0, dtype);
        match &cx.shape(0)?[..] {
            [batch @ .., _, _] => cx.set_tensor(0, dtype, Shape::from(batch)),
            _ => return Err(Unknown::new("an operand of rank under 2")),
        }
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let x = cx.tensor(0)?;
        let [batch @ .., n, m] = x.dims() else {
            return Err(cx.invalid("an operand of rank under 2"));
        };
        if n != m {
            return Err(cx.invalid(format!("a matrix of {n} by {m}")));
        }
        let mut matrices = f64::read(x)?.into_owned();
        let y = match *n {
            // Of no elements the determinant is that of the identity.
            0 => vec![1.0; crate::ops::rules::limited(batch)?],
            n => matrices
                .chunks_exact_mut(n * n)
                .map(|m| determinant(m, n))
                .collect(),
        };
        debug_assert_eq!(y.len(), product(batch));
        Ok(vec![real_tensor(x.dtype(), batch, y)?])
    }
}

fn determinant(matrix: &mut [f64], n: usize) -> f64 {
    let mut det = 1.0;
    for column in 0..n {
        let size = |&row: &usize| matrix[row * n + column].abs();
        let pivot = (column..n)
            .max_by(|a, b| size(a).total_cmp(&size(b)))
            .unwrap_or(column);
        if pivot != column {
            (0..n).for_each(|i| matrix.swap(pivot * n + i, column * n + i));
            det = -det;
        }
        let (above, below) = matrix.split_at_mut((column + 1) * n);
        let top = &above[column * n..];
        det *= top[column];
        if top[column] == 0.0 {
            return 0.0;
        }
        for row in below.chunks_exact_mut(n) {
            let factor = row[column] / top[column];
            row.iter_mut()
                .zip(top)
                .skip(column)
                .for_each(|(x, t)| *x -= factor * t);
        }
    }
    det
}
