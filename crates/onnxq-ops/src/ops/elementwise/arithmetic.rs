//! What the binary operators do on tensors.

use onnxq_tensor::{DType, Dims, Element, Tensor};

use crate::{
    EvalContext, EvalError,
    ops::{
        data,
        number::{self, Number, for_int, for_number},
        rules,
    },
};

type Result<T> = std::result::Result<T, EvalError>;

/// The dimensions two tensors broadcast to.
pub(super) fn broadcast_dims(a: &Tensor, b: &Tensor) -> Result<Dims> {
    rules::concrete(&rules::broadcast(
        &rules::symbolic(a.dims()),
        &rules::symbolic(b.dims()),
    )?)
}

fn same_type(a: &Tensor, b: &Tensor) -> Result<()> {
    if a.dtype() == b.dtype() {
        return Ok(());
    }
    let message = format!("element types {} and {} do not mix", a.dtype(), b.dtype());
    Err(EvalError::Invalid(message))
}

/// `f` of the elements of two tensors of `T`, broadcast, as a tensor.
fn zip<T: Element, R: Element>(a: &Tensor, b: &Tensor, f: impl Fn(T, T) -> R) -> Result<Tensor> {
    let dims = broadcast_dims(a, b)?;
    let (x, y) = (a.as_slice::<T>()?, b.as_slice::<T>()?);
    let out = data::zip((&x, a.dims()), (&y, b.dims()), &dims, |&x, &y| f(x, y));
    Ok(Tensor::from_vec(dims, out)?)
}

/// The same with a `bool` tensor as the result.
fn zip_bool<T>(
    (a, a_dims): (&[T], &[usize]),
    (b, b_dims): (&[T], &[usize]),
    dims: Dims,
    f: impl Fn(&T, &T) -> bool,
) -> Result<Tensor> {
    let out = data::zip((a, a_dims), (b, b_dims), &dims, f);
    Ok(Tensor::from_bools(dims, out)?)
}

macro_rules! arithmetic {
    ($($name:ident => $method:ident),*) => {$(
        pub(super) fn $name(cx: &EvalContext<'_>, a: &Tensor, b: &Tensor) -> Result<Tensor> {
            same_type(a, b)?;
            let (x, y) = (number::widen(a)?, number::widen(b)?);
            let out = for_number!(
                x.dtype(),
                T => zip::<T, T>(&x, &y, Number::$method)?,
                return Err(cx.unsupported_type(a.dtype()))
            );
            number::narrow(out, a.dtype())
        }
    )*};
}

arithmetic!(add => add, sub => sub, mul => mul, quotient => div, floor_modulo => modulo,
    remainder => remainder, maximum => maximum, minimum => minimum, power => pow);

fn no_zero_divisor(b: &Tensor) -> Result<()> {
    if b.dtype().is_int() && b.to_i64s().is_ok_and(|b| b.contains(&0)) {
        return Err(EvalError::Invalid(
            "division of an integer by zero".to_owned(),
        ));
    }
    Ok(())
}

pub(super) fn div(cx: &EvalContext<'_>, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    no_zero_divisor(b)?;
    quotient(cx, a, b)
}

/// `Mod`: the sign is that of the divisor, or with `fmod` that of the dividend.
pub(super) fn modulo(cx: &EvalContext<'_>, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    no_zero_divisor(b)?;
    if cx.op().int("fmod", 0) == 0 {
        floor_modulo(cx, a, b)
    } else {
        remainder(cx, a, b)
    }
}

/// `Pow`: the result has the type of the base; exponents of another type are taken as `f64`.
pub(super) fn pow(cx: &EvalContext<'_>, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if a.dtype() == b.dtype() {
        return power(cx, a, b);
    }
    let (x, y) = (a.cast(DType::F64, true)?, b.cast(DType::F64, true)?);
    Ok(zip::<f64, f64>(&x, &y, f64::powf)?.cast(a.dtype(), true)?)
}

macro_rules! bitwise {
    ($($name:ident => $f:expr),*) => {$(
        pub(super) fn $name(cx: &EvalContext<'_>, a: &Tensor, b: &Tensor) -> Result<Tensor> {
            same_type(a, b)?;
            for_int!(
                a.dtype(),
                T => zip::<T, T>(a, b, $f),
                Err(cx.unsupported_type(a.dtype()))
            )
        }
    )*};
}

bitwise!(
    bit_and => |x, y| x & y, bit_or => |x, y| x | y, bit_xor => |x, y| x ^ y,
    shift_left => |x, y| match i128::from(y) {
        y if (0..i128::from(T::BITS)).contains(&y) => x << y,
        _ => 0,
    },
    // All bits are then that of the sign.
    shift_right => |x, y| match i128::from(y) {
        y if (0..i128::from(T::BITS)).contains(&y) => x >> y,
        _ if T::MIN == 0 => 0,
        _ => x >> (T::BITS - 1),
    }
);

/// `BitShift`: shifts by the width and more, and negative ones, shift every bit out.
pub(super) fn shift(cx: &EvalContext<'_>, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    match cx.op().str("direction") {
        Some("LEFT") => shift_left(cx, a, b),
        Some("RIGHT") => shift_right(cx, a, b),
        other => Err(cx.invalid(format!("direction is {other:?}, not LEFT or RIGHT"))),
    }
}

macro_rules! logic {
    ($($name:ident => $f:expr),*) => {$(
        pub(super) fn $name(_: &EvalContext<'_>, a: &Tensor, b: &Tensor) -> Result<Tensor> {
            let dims = broadcast_dims(a, b)?;
            zip_bool((&a.as_bools()?, a.dims()), (&b.as_bools()?, b.dims()), dims, $f)
        }
    )*};
}

logic!(and => |x, y| x & y, or => |x, y| x | y, xor => |x, y| x ^ y);

macro_rules! comparison {
    ($($name:ident => $f:expr),*) => {$(
        pub(super) fn $name(cx: &EvalContext<'_>, a: &Tensor, b: &Tensor) -> Result<Tensor> {
            same_type(a, b)?;
            let dims = broadcast_dims(a, b)?;
            let (a, b) = (number::widen(a)?, number::widen(b)?);
            for_number!(
                a.dtype(),
                T => zip_bool(
                    (&*a.as_slice::<T>()?, a.dims()),
                    (&*b.as_slice::<T>()?, b.dims()),
                    dims,
                    $f,
                ),
                Err(cx.unsupported_type(a.dtype()))
            )
        }
    )*};
}

comparison!(equal_numbers => |x, y| x == y, less => |x, y| x < y, greater => |x, y| x > y,
    less_or_equal => |x, y| x <= y, greater_or_equal => |x, y| x >= y);

/// `Equal`, which also compares truth values and strings.
pub(super) fn equal(cx: &EvalContext<'_>, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    same_type(a, b)?;
    let dims = broadcast_dims(a, b)?;
    match (a.dtype(), a.strings(), b.strings()) {
        (DType::Bool, ..) => zip_bool(
            (&a.as_bools()?, a.dims()),
            (&b.as_bools()?, b.dims()),
            dims,
            |x, y| x == y,
        ),
        (_, Some(x), Some(y)) => zip_bool((x, a.dims()), (y, b.dims()), dims, |x, y| x == y),
        _ => equal_numbers(cx, a, b),
    }
}
