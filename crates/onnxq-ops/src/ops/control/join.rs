//! What is known of a value that is one of two.

use onnxq_ir::{TensorType, Type};
use onnxq_tensor::Dim;

use crate::{Fact, SymTensor};

/// What holds of both.
pub(super) fn join(a: &Fact, b: &Fact) -> Fact {
    let ty = match (&a.ty, &b.ty) {
        (Some(a), Some(b)) => join_types(a, b),
        _ => None,
    };
    let value = match (&a.value, &b.value) {
        (Some(a), Some(b)) => join_values(a, b),
        _ => None,
    };
    let constant = match (&a.constant, &b.constant) {
        (Some(a), Some(b)) if a.same(b) || a.len() <= SymTensor::MAX_LEN && a == b => {
            Some(a.clone())
        }
        _ => None,
    };
    Fact {
        ty,
        value,
        constant,
    }
}

fn join_types(a: &Type, b: &Type) -> Option<Type> {
    let inner = |a: &Option<Box<Type>>, b: &Option<Box<Type>>| match (a, b) {
        (Some(a), Some(b)) => join_types(a, b).map(Box::new),
        _ => None,
    };
    match (a, b) {
        _ if a == b => Some(a.clone()),
        (Type::Tensor(a), Type::Tensor(b)) => Some(Type::Tensor(join_tensors(a, b))),
        (Type::Sequence(a), Type::Sequence(b)) => Some(Type::Sequence(inner(a, b))),
        (Type::Optional(a), Type::Optional(b)) => Some(Type::Optional(inner(a, b))),
        _ => None,
    }
}

fn join_tensors(a: &TensorType, b: &TensorType) -> TensorType {
    let shape = match (&a.shape, &b.shape) {
        (Some(a), Some(b)) if a.len() == b.len() => {
            Some(a.iter().zip(b).map(|(a, b)| join_dims(a, b)).collect())
        }
        _ => None,
    };
    TensorType {
        dtype: a.dtype.filter(|&d| b.dtype == Some(d)),
        shape,
    }
}

fn join_dims(a: &Dim, b: &Dim) -> Dim {
    if a == b { a.clone() } else { Dim::UNKNOWN }
}

fn join_values(a: &SymTensor, b: &SymTensor) -> Option<SymTensor> {
    if a.dtype != b.dtype || a.dims != b.dims {
        return None;
    }
    let elems = a.elems.iter().zip(&b.elems);
    Some(SymTensor {
        dtype: a.dtype,
        dims: a.dims.clone(),
        elems: elems.map(|(a, b)| join_dims(a, b)).collect(),
    })
}

/// Only what a value's type is, apart from its shape.
fn weaken(fact: &Fact) -> Fact {
    Fact {
        ty: fact.ty.as_ref().map(without_shape),
        ..Fact::default()
    }
}

/// A type without the shapes in it.
pub(super) fn without_shape(ty: &Type) -> Type {
    let inner = |of: &Option<Box<Type>>| of.as_ref().map(|of| Box::new(without_shape(of)));
    match ty {
        Type::Tensor(t) => Type::Tensor(TensorType {
            dtype: t.dtype,
            shape: None,
        }),
        Type::Sequence(of) => Type::Sequence(inner(of)),
        Type::Optional(of) => Type::Optional(inner(of)),
        other => other.clone(),
    }
}

/// Facts of carried values that hold before every step, from the initial ones and from what
/// `step` makes of facts that hold before it. Also returns what the last call of `step` gave.
///
/// If they are not stable after two steps only element types are kept, which the specification
/// says do not change. The same is done at once where graphs are nested deep (`quick`), so that
/// time does not grow with a power of the depth.
pub(super) fn fixed_point<E>(
    initial: Vec<Fact>,
    quick: bool,
    mut step: impl FnMut(&[Fact]) -> Result<Vec<Fact>, E>,
) -> Result<(Vec<Fact>, Vec<Fact>), E> {
    let weakened = |facts: Vec<Fact>| facts.iter().map(weaken).collect();
    let mut before: Vec<Fact> = if quick { weakened(initial) } else { initial };
    let mut round = 0;
    loop {
        let after = step(&before)?;
        let joined = |(i, before): (usize, &Fact)| {
            let after = after.get(i);
            after.map_or_else(Fact::unknown, |after| join(before, after))
        };
        let next: Vec<Fact> = before.iter().enumerate().map(joined).collect();
        if next == before || quick || round == 2 {
            return Ok((next, after));
        }
        before = if round == 0 { next } else { weakened(next) };
        round += 1;
    }
}
