//! What is known of a value.

use onnxq_ir::{TensorType, Type};
use onnxq_tensor::{DType, Dim, Dims, Shape, Tensor};

/// What is known of a value.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Fact {
    /// Its type, as far as known.
    pub ty: Option<Type>,
    /// Its elements, symbolic, where it is a small tensor of integers.
    pub value: Option<SymTensor>,
    /// Its value, where it is a constant.
    pub constant: Option<Tensor>,
}

/// A small tensor of integers with symbolic elements: a shape, a length, an index. Its type may
/// be a float one, in which sizes are scaled.
#[derive(Clone, PartialEq, Debug)]
pub struct SymTensor {
    /// `int64` or `int32`, usually.
    pub dtype: DType,
    /// Its dimensions.
    pub dims: Dims,
    /// Its elements, row-major; an element of which nothing is known is `Dim::UNKNOWN`.
    pub elems: Vec<Dim>,
}

impl SymTensor {
    /// Tensors with more elements than this are not followed.
    pub const MAX_LEN: usize = 1024;

    /// A vector of `int64`.
    pub fn vector(elems: Vec<Dim>) -> SymTensor {
        SymTensor {
            dtype: DType::I64,
            dims: Dims::from_slice(&[elems.len()]),
            elems,
        }
    }

    /// A scalar of `int64`.
    pub fn scalar(elem: Dim) -> SymTensor {
        SymTensor {
            dtype: DType::I64,
            dims: Dims::new(),
            elems: vec![elem],
        }
    }

    /// The elements of a small integer or `bool` tensor, or of one of floats that are integers.
    pub fn from_tensor(t: &Tensor) -> Option<SymTensor> {
        if t.len() > SymTensor::MAX_LEN {
            return None;
        }
        let elems = match t.dtype() {
            DType::F32 | DType::F64 | DType::F16 | DType::BF16 => integers(&t.to_f64s().ok()?)?,
            _ => t.to_i64s().ok()?,
        };
        Some(SymTensor {
            dtype: t.dtype(),
            dims: t.dims().into(),
            elems: elems.into_iter().map(Dim::known).collect(),
        })
    }

    /// The tensor, if every element is a constant that its type can hold.
    pub fn to_tensor(&self) -> Option<Tensor> {
        let elems: Option<Vec<i64>> = self.elems.iter().map(Dim::as_const).collect();
        let elems = elems?;
        let wide = Tensor::from_vec(self.dims.clone(), elems).ok()?;
        let t = wide.cast(self.dtype, true).ok()?;
        (t.cast(DType::I64, true).ok()? == wide).then_some(t)
    }

    /// The elements as constants, if they all are.
    pub fn as_consts(&self) -> Option<Vec<i64>> {
        self.elems.iter().map(Dim::as_const).collect()
    }
}

/// Whether a type can hold an integer.
fn holds(dtype: DType, value: i64) -> bool {
    let bits = dtype.bits() as u32;
    match dtype {
        DType::Bool => (0..=1).contains(&value),
        DType::U64 => value >= 0,
        d if d.is_signed_int() => bits == 64 || (value >> (bits - 1)) == (value >> 63),
        d if d.is_int() => value >> bits == 0,
        _ => true,
    }
}

/// Floats as integers, if they all are, and so small that sums of them are exact.
fn integers(floats: &[f64]) -> Option<Vec<i64>> {
    const EXACT: f64 = (1 << 24) as f64;
    let integer = |&v: &f64| (v.fract() == 0.0 && v.abs() <= EXACT).then_some(v as i64);
    floats.iter().map(integer).collect()
}

impl Fact {
    /// Nothing is known.
    pub fn unknown() -> Fact {
        Fact::default()
    }

    /// Only the type is known.
    pub fn of_type(ty: Type) -> Fact {
        Fact {
            ty: Some(ty),
            ..Fact::default()
        }
    }

    /// A constant.
    pub fn of_constant(t: &Tensor) -> Fact {
        Fact {
            ty: Some(Type::dense(t.dtype(), t.dims())),
            value: SymTensor::from_tensor(t),
            constant: Some(t.clone()),
        }
    }

    /// A tensor with symbolic elements. One that its type cannot hold is unknown: the operator
    /// wraps around.
    pub fn of_value(mut value: SymTensor) -> Fact {
        for d in &mut value.elems {
            if d.as_const().is_some_and(|d| !holds(value.dtype, d)) {
                *d = Dim::UNKNOWN;
            }
        }
        Fact {
            ty: Some(Type::dense(value.dtype, &value.dims)),
            constant: value.to_tensor(),
            value: Some(value),
        }
    }

    /// The same with a symbol, named after the value, for every dimension that is unknown. The
    /// elements of a sequence may differ in a dimension that has a name: there names mean nothing.
    pub(super) fn with_symbols(mut self, name: &str) -> Fact {
        if let Some(ty @ (Type::Sequence(_) | Type::Optional(_))) = &mut self.ty {
            forget_names(ty, false);
        }
        if let Some(Type::Tensor(TensorType {
            shape: Some(shape), ..
        })) = &mut self.ty
        {
            for (i, d) in shape.iter_mut().enumerate() {
                if d.is_unknown() {
                    *d = Dim::symbol(&format!("{name}_dim_{i}"));
                }
            }
        }
        self
    }

    /// The element type, if it is a tensor of which it is known.
    pub fn dtype(&self) -> Option<DType> {
        self.ty.as_ref()?.dtype()
    }

    /// The shape, if it is a tensor of known rank.
    pub fn shape(&self) -> Option<&Shape> {
        self.ty.as_ref()?.shape()
    }

    /// The rank, if it is a tensor of which it is known.
    pub fn rank(&self) -> Option<usize> {
        self.shape().map(|s| s.len())
    }

    /// The constant dimensions, if all are.
    pub fn dims(&self) -> Option<Dims> {
        self.shape()?
            .iter()
            .map(|d| usize::try_from(d.as_const()?).ok())
            .collect()
    }
}

/// Makes dimensions with a name unknown: those of the elements of sequences, or `all`.
pub(super) fn forget_names(ty: &mut Type, all: bool) {
    match ty {
        Type::Tensor(t) if all => {
            for dim in t.shape.iter_mut().flatten() {
                if dim.as_const().is_none() {
                    *dim = Dim::UNKNOWN;
                }
            }
        }
        Type::Sequence(Some(of)) => forget_names(of, true),
        Type::Optional(Some(of)) => forget_names(of, all),
        _ => {}
    }
}

/// The better of what is inferred and what an annotation says, and whether they contradict each
/// other (then the inferred one counts).
pub(crate) fn merge(inferred: Option<Type>, annotated: Option<&Type>) -> (Option<Type>, bool) {
    let (Some(inferred), Some(annotated)) = (&inferred, annotated) else {
        return (inferred.or_else(|| annotated.cloned()), false);
    };
    match (inferred, annotated) {
        (Type::Tensor(a), Type::Tensor(b)) => {
            let (t, clash) = merge_tensor(a, b);
            (Some(Type::Tensor(t)), clash)
        }
        (Type::Sequence(None), Type::Sequence(_)) | (Type::Optional(None), Type::Optional(_)) => {
            (Some(annotated.clone()), false)
        }
        _ => {
            let clash = std::mem::discriminant(inferred) != std::mem::discriminant(annotated);
            (Some(inferred.clone()), clash)
        }
    }
}

fn merge_tensor(a: &TensorType, b: &TensorType) -> (TensorType, bool) {
    let mut clash = a.dtype.is_some() && b.dtype.is_some() && a.dtype != b.dtype;
    let shape = match (&a.shape, &b.shape) {
        (Some(x), Some(y)) if x.len() == y.len() => {
            let mut merge = |x: &Dim, y: &Dim| match (x.as_const(), y.as_const()) {
                (Some(m), Some(n)) => {
                    clash |= m != n;
                    x.clone()
                }
                (None, Some(_)) => y.clone(),
                (Some(_), None) => x.clone(),
                (None, None) if x.is_unknown() => y.clone(),
                (None, None) => x.clone(),
            };
            Some(x.iter().zip(y).map(|(x, y)| merge(x, y)).collect())
        }
        (Some(x), Some(_)) => {
            clash = true;
            Some(x.clone())
        }
        (x, y) => x.clone().or_else(|| y.clone()),
    };
    (
        TensorType {
            dtype: a.dtype.or(b.dtype),
            shape,
        },
        clash,
    )
}
