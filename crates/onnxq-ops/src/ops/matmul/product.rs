//! MatMul: NumPy's product of stacks of matrices, and the one product that its relatives share.

use std::num::Wrapping;

use ndarray::{ArrayView2, ArrayViewMut2, LinalgScalar, linalg::general_mat_mul};
use onnxq_ir::Op;
use onnxq_tensor::{DType, Dim, Shape, Tensor};

use crate::{
    EvalContext, EvalError, InferContext, Operator, QuantRole, Unknown, Value,
    ops::{
        numeric::{
            Real, advance, broadcast_dims, broadcast_strides, int_tensor, product, real_tensor,
            with_real,
        },
        quantization::MS,
        rules,
    },
};

pub(super) struct MatMul;

impl Operator for MatMul {
    fn name(&self) -> &'static str {
        "MatMul"
    }

    fn since(&self) -> &'static [i64] {
        &[1, 9, 13]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        infer_product(cx, 0, 1, None)
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let (a, b) = (cx.tensor(0)?, cx.tensor(1)?);
        let plan = Stacks::of(a.dims(), b.dims(), false, false)?;
        Ok(vec![multiply(cx, &plan, a, b, 1.0)?])
    }

    fn quant(&self, _op: &Op) -> QuantRole {
        QuantRole::Affine {
            activation: 0,
            weight: 1,
            bias: None,
            channel_axis: -1,
        }
    }
}

/// `alpha * A * B`, either transposed first.
pub(super) struct FusedMatMul;

impl FusedMatMul {
    fn flags(op: &Op) -> Result<(bool, bool), String> {
        let flag = |key| op.int(key, 0) != 0;
        if flag("transBatchA") || flag("transBatchB") {
            return Err("attributes 'transBatchA' and 'transBatchB'".to_owned());
        }
        Ok((flag("transA"), flag("transB")))
    }
}

impl Operator for FusedMatMul {
    fn domain(&self) -> &'static str {
        MS
    }

    fn name(&self) -> &'static str {
        "FusedMatMul"
    }

    fn since(&self) -> &'static [i64] {
        &[1]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let dtype = cx.dtype(0)?;
        cx.set_dtype(0, dtype);
        let (trans_a, trans_b) = FusedMatMul::flags(cx.op()).map_err(Unknown)?;
        let turn = |mut s: Shape, flag: bool| {
            let n = s.len();
            if flag && n >= 2 {
                s.swap(n - 2, n - 1);
            }
            s
        };
        let a = turn(cx.shape(0)?.clone(), trans_a);
        let b = turn(cx.shape(1)?.clone(), trans_b);
        cx.set_tensor(0, dtype, product_shape(&a, &b)?);
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let (a, b) = (cx.tensor(0)?, cx.tensor(1)?);
        let flags = FusedMatMul::flags(cx.op());
        let (trans_a, trans_b) = flags.map_err(|e| cx.unsupported(e))?;
        let plan = Stacks::of(a.dims(), b.dims(), trans_a, trans_b)?;
        let alpha = f64::from(cx.op().float("alpha", 1.0));
        Ok(vec![multiply(cx, &plan, a, b, alpha)?])
    }
}

/// Sets result 0 to the product of operands `a` and `b`, of their type or of `dtype`.
pub(super) fn infer_product(
    cx: &mut InferContext<'_>,
    a: usize,
    b: usize,
    dtype: Option<DType>,
) -> Result<(), Unknown> {
    let dtype = match dtype {
        Some(dtype) => dtype,
        None => cx.dtype(a).or_else(|_| cx.dtype(b))?,
    };
    cx.set_dtype(0, dtype);
    let shape = product_shape(cx.shape(a)?, cx.shape(b)?)?;
    cx.set_tensor(0, dtype, shape);
    Ok(())
}

/// The shape of a product of stacks of matrices.
pub(super) fn product_shape(a: &[Dim], b: &[Dim]) -> Result<Shape, Unknown> {
    let (Some((k, rows)), false) = (a.split_last(), b.is_empty()) else {
        return Err(Unknown::new("a product with a scalar"));
    };
    let (inner, columns) = match b {
        [n] => (n, None),
        [.., k, n] => (k, Some(n)),
        [] => return Err(Unknown::new("a product with a scalar")),
    };
    if k.provably_ne(inner) {
        return Err(Unknown(format!("{k} columns times {inner} rows")));
    }
    let (stack, row) = match rows.split_last() {
        Some((row, stack)) => (stack, Some(row)),
        None => (&[][..], None),
    };
    let mut shape = rules::broadcast(stack, &b[..b.len().saturating_sub(2)])?;
    shape.extend(row.cloned());
    shape.extend(columns.cloned());
    Ok(shape)
}

/// Two stacks of matrices, and where each product finds its factors.
pub(in crate::ops) struct Stacks {
    /// The dimensions of the result.
    pub(in crate::ops) dims: Vec<usize>,
    pub(in crate::ops) rows: usize,
    pub(in crate::ops) depth: usize,
    pub(in crate::ops) columns: usize,
    trans_a: bool,
    trans_b: bool,
    /// Offsets of the factors of each product, in matrices.
    pairs: Vec<[usize; 2]>,
}

impl Stacks {
    /// For factors of these dimensions, either transposed in its last two.
    pub(in crate::ops) fn of(
        a: &[usize],
        b: &[usize],
        trans_a: bool,
        trans_b: bool,
    ) -> Result<Stacks, EvalError> {
        let wrong = || EvalError::Invalid(format!("a product of {a:?} and {b:?}"));
        let (a_stack, rows, a_depth) = match *a {
            [] => return Err(wrong()),
            [k] => (&a[..0], 1, k),
            [.., m, k] if trans_a => (&a[..a.len() - 2], k, m),
            [.., m, k] => (&a[..a.len() - 2], m, k),
        };
        let (b_stack, depth, columns) = match *b {
            [] => return Err(wrong()),
            [k] => (&b[..0], k, 1),
            [.., k, n] if trans_b => (&b[..b.len() - 2], n, k),
            [.., k, n] => (&b[..b.len() - 2], k, n),
        };
        if a_depth != depth {
            return Err(wrong());
        }
        let stack = broadcast_dims(a_stack, b_stack).ok_or_else(wrong)?;
        let mut dims = stack.to_vec();
        if a.len() > 1 {
            dims.push(rows);
        }
        if b.len() > 1 {
            dims.push(columns);
        }
        let count = rules::limited(&dims)?;
        let (sa, sb) = (
            broadcast_strides(a_stack, &stack),
            broadcast_strides(b_stack, &stack),
        );
        let mut pairs = Vec::new();
        if count > 0 {
            pairs.reserve(product(&stack));
            let (mut index, mut at) = (vec![0; stack.len()], [0, 0]);
            loop {
                pairs.push(at);
                if !advance(&mut index, &stack, [&sa, &sb], &mut at) {
                    break;
                }
            }
        }
        Ok(Stacks {
            dims,
            rows,
            depth,
            columns,
            trans_a: trans_a && a.len() > 1,
            trans_b: trans_b && b.len() > 1,
            pairs,
        })
    }

    /// `alpha` times the products. `a` and `b` are as long as the dimensions they were made for.
    pub(in crate::ops) fn multiply<T: LinalgScalar>(&self, a: &[T], b: &[T], alpha: T) -> Vec<T> {
        let (m, k, n) = (self.rows, self.depth, self.columns);
        let mut y = vec![T::zero(); self.pairs.len() * m * n];
        if y.is_empty() || k == 0 {
            return y;
        }
        let one_b = self.pairs.iter().all(|p| p[1] == self.pairs[0][1]);
        let in_order = self.pairs.iter().enumerate().all(|(i, p)| p[0] == i);
        if one_b && in_order && !self.trans_a {
            // One matrix on the right: the stack on the left is one tall matrix.
            let rows = self.pairs.len() * m;
            let b = self.factor(&b[self.pairs[0][1] * k * n..], self.trans_b, k, n);
            let a = matrix(a, rows, k);
            general_mat_mul(alpha, &a, &b, T::zero(), &mut matrix_mut(&mut y, rows, n));
            return y;
        }
        for (y, &[i, j]) in y.chunks_exact_mut(m * n).zip(&self.pairs) {
            let a = self.factor(&a[i * m * k..], self.trans_a, m, k);
            let b = self.factor(&b[j * k * n..], self.trans_b, k, n);
            general_mat_mul(alpha, &a, &b, T::zero(), &mut matrix_mut(y, m, n));
        }
        y
    }

    /// The number of the right factor of the product with number `i`.
    pub(in crate::ops) fn right(&self, i: usize) -> usize {
        self.pairs[i][1]
    }

    fn factor<'a, T>(
        &self,
        data: &'a [T],
        transposed: bool,
        rows: usize,
        columns: usize,
    ) -> ArrayView2<'a, T> {
        match transposed {
            true => matrix(data, columns, rows).reversed_axes(),
            false => matrix(data, rows, columns),
        }
    }
}

fn matrix<T>(data: &[T], rows: usize, columns: usize) -> ArrayView2<'_, T> {
    ArrayView2::from_shape((rows, columns), &data[..rows * columns])
        .expect("the slice has rows * columns elements")
}

fn matrix_mut<T>(data: &mut [T], rows: usize, columns: usize) -> ArrayViewMut2<'_, T> {
    ArrayViewMut2::from_shape((rows, columns), &mut data[..rows * columns])
        .expect("the slice has rows * columns elements")
}

/// `alpha` times the products of two tensors of one type, float or integer.
pub(super) fn multiply(
    cx: &EvalContext<'_>,
    plan: &Stacks,
    a: &Tensor,
    b: &Tensor,
    alpha: f64,
) -> Result<Value, EvalError> {
    if a.dtype().is_int() {
        let wrap = |t: &Tensor| -> Result<Vec<Wrapping<i64>>, EvalError> {
            Ok(wrapped(t)?.into_iter().map(Wrapping).collect())
        };
        let y = plan.multiply(&wrap(a)?, &wrap(b)?, Wrapping(alpha as i64));
        let y = y.into_iter().map(|x| x.0).collect();
        return int_tensor(a.dtype(), &plan.dims, y);
    }
    with_real!(cx, a.dtype(), T => {
        let y = plan.multiply(&T::read(a)?, &T::read(b)?, T::of(alpha));
        real_tensor(a.dtype(), &plan.dims, y)
    })
}

/// The elements of an integer tensor modulo 2^64.
pub(in crate::ops) fn wrapped(t: &Tensor) -> Result<Vec<i64>, EvalError> {
    Ok(match t.dtype() {
        DType::U64 => t.as_slice::<u64>()?.iter().map(|&x| x as i64).collect(),
        _ => t.to_i64s()?,
    })
}
