//! [`Dim`]: one symbolic dimension, in normal form from the moment it is built.
//!
//! A dimension is unknown, a constant, or a polynomial with integer coefficients over *atoms*:
//! named symbols, floor divisions, minima and maxima. Ceiling division and remainder are
//! expressed by floor division.
//!
//! *Invariants*
//! - `==` compares normal forms. For polynomials that is equality of functions. Floor division
//!   has its exact part taken out, common factors cancelled, nested divisions joined and its sign
//!   fixed; minima and maxima are flat, sorted and free of operands that can never win. Equal
//!   dimensions are therefore always the same function, and nearly always conversely.
//! - Every symbol stands for a value of zero or more, as the sizes of tensors do, and a divisor
//!   for a value other than zero.
//! - Unknown absorbs: every operation on it is unknown. So is a result that overflows or that
//!   grows past a small fixed size, which bounds the time and the depth of every operation.
//! - `Dim::parse(&dim.to_string()) == dim`, for every dimension.

use std::{
    cmp::Ordering,
    ops::{Add, Mul, Neg, Sub},
    sync::Arc,
};

use smallvec::SmallVec;

use self::poly::{Atom, Poly, Term};

mod bounds;
mod divide;
mod parse;
mod poly;
mod print;

/// One dimension, or any integer computed from dimensions: unknown, a constant, or a polynomial
/// over symbols, floor divisions, minima and maxima, in normal form.
///
/// ```
/// use onnxq_tensor::Dim;
///
/// let n = Dim::symbol("N");
/// assert_eq!(&n + &n, 2 * &n);
/// assert_eq!((4 * &n + 2).floor_div(&2.into()).to_string(), "2*N + 1");
/// assert_eq!(Dim::parse("(H - 1)//2 + 1"), Dim::parse("ceil(H/2)"));
/// assert!(Dim::parse("N + 2").provably_ne(&1.into()));
/// ```
///
/// Equal dimensions are the same function of their symbols, and nearly always conversely;
/// [`UNKNOWN`](Dim::UNKNOWN) equals itself, which says nothing about the values.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Dim(Repr);

#[derive(Clone, PartialEq, Eq, Hash)]
enum Repr {
    Unknown,
    Const(i64),
    /// Not a constant.
    Poly(Arc<Poly>),
}

/// Dimensions of a shape whose rank is known.
pub type Shape = SmallVec<[Dim; 4]>;

impl Dim {
    /// A dimension of which nothing is known.
    pub const UNKNOWN: Dim = Dim(Repr::Unknown);

    /// A constant.
    pub const fn known(value: i64) -> Dim {
        Dim(Repr::Const(value))
    }

    /// The symbol of this name. Any text is a name; [`parse`](Dim::parse) is what reads
    /// expressions.
    pub fn symbol(name: &str) -> Dim {
        Dim(Repr::Poly(Arc::new(Poly::atom(Atom::Symbol(name.into())))))
    }

    /// Reads what a file or text calls a dimension.
    ///
    /// ONNX says only that it is a name. Exporters write expressions, but also names that happen
    /// to be expressions (`dyn-axis`, `decoder/Add_output_0_dim_1`), by which people bind
    /// dimensions. So it is an expression where it is spelt as [`Dim`] spells it, which changes
    /// nothing in the file, and a name otherwise.
    pub fn from_param(text: &str) -> Dim {
        let dim = Dim::parse(text);
        let same = dim.is_unknown() || dim.is_symbol() == Some(text) || dim.to_string() == text;
        if same { dim } else { Dim::symbol(text) }
    }

    /// Reads an expression, or a name: an expression such as `3*N`, `(H - 1)/2 + 1` or
    /// `max(1, N)`. Text that is no expression is one symbol with exactly this text.
    ///
    /// A `/` divides exactly inside of `floor(…)` and `ceil(…)`, as SymPy prints them; what is
    /// left of a fraction in the end is rounded down.
    pub fn parse(text: &str) -> Dim {
        parse::parse(text)
    }

    /// The value, if this is a constant.
    pub fn as_const(&self) -> Option<i64> {
        match self.0 {
            Repr::Const(value) => Some(value),
            _ => None,
        }
    }

    /// Whether nothing is known.
    pub fn is_unknown(&self) -> bool {
        matches!(self.0, Repr::Unknown)
    }

    /// The name, if this is a symbol and nothing else.
    pub fn is_symbol(&self) -> Option<&str> {
        match self.sole_atom()? {
            Atom::Symbol(name) => Some(name),
            _ => None,
        }
    }

    /// `self / divisor`, rounded towards negative infinity. Unknown for a divisor of zero.
    pub fn floor_div(&self, divisor: &Dim) -> Dim {
        match (&self.0, &divisor.0) {
            (Repr::Unknown, _) | (_, Repr::Unknown) => Dim::UNKNOWN,
            (Repr::Const(a), Repr::Const(b)) => floor_div(*a, *b).into(),
            _ => divide::floor(self, divisor).unwrap_or(Dim::UNKNOWN),
        }
    }

    /// `self / divisor`, rounded towards positive infinity. Unknown for a divisor of zero.
    pub fn ceil_div(&self, divisor: &Dim) -> Dim {
        -(-self).floor_div(divisor)
    }

    /// `self - divisor * floor(self / divisor)`: the remainder that has the sign of the divisor.
    pub fn rem(&self, divisor: &Dim) -> Dim {
        self - divisor * self.floor_div(divisor)
    }

    /// The smaller of the two.
    pub fn min(&self, other: &Dim) -> Dim {
        self.extremum(other, Ordering::Less)
    }

    /// The larger of the two.
    pub fn max(&self, other: &Dim) -> Dim {
        self.extremum(other, Ordering::Greater)
    }

    /// The names of the symbols in it, sorted, each once.
    pub fn symbols(&self) -> Vec<&str> {
        fn collect<'a>(dim: &'a Dim, names: &mut Vec<&'a str>) {
            let Repr::Poly(poly) = &dim.0 else { return };
            for (atom, _) in poly.terms().iter().flat_map(|t| &t.mono) {
                match atom {
                    Atom::Symbol(name) => names.push(name),
                    Atom::Floor(a, b) => {
                        collect(a, names);
                        collect(b, names);
                    }
                    Atom::Min(of) | Atom::Max(of) => of.iter().for_each(|d| collect(d, names)),
                }
            }
        }
        let mut names = Vec::new();
        collect(self, &mut names);
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Replaces symbols; one for which `value_of` has nothing stays.
    pub fn substitute(&self, value_of: impl Fn(&str) -> Option<Dim>) -> Dim {
        self.substitute_dyn(&value_of)
    }

    fn substitute_dyn(&self, value_of: &dyn Fn(&str) -> Option<Dim>) -> Dim {
        let Repr::Poly(poly) = &self.0 else {
            return self.clone();
        };
        let extremum = |of: &[Dim], wanted| {
            let mut of = of.iter().map(|d| d.substitute_dyn(value_of));
            let first = of.next().unwrap_or(Dim::UNKNOWN);
            of.fold(first, |a, b| a.extremum(&b, wanted))
        };
        let mut sum = Dim::known(0);
        for term in poly.terms() {
            let mut product = Dim::known(term.coef);
            for (atom, power) in &term.mono {
                let value = match atom {
                    Atom::Symbol(name) => value_of(name)
                        .unwrap_or_else(|| Dim(Repr::Poly(Arc::new(Poly::atom(atom.clone()))))),
                    Atom::Floor(a, b) => a
                        .substitute_dyn(value_of)
                        .floor_div(&b.substitute_dyn(value_of)),
                    Atom::Min(of) => extremum(of, Ordering::Less),
                    Atom::Max(of) => extremum(of, Ordering::Greater),
                };
                for _ in 0..*power {
                    product = product * &value;
                }
            }
            sum = sum + product;
        }
        sum
    }

    /// The value where symbols have values; `None` where one is missing, on overflow, and on
    /// division by zero.
    pub fn eval(&self, value_of: impl Fn(&str) -> Option<i64>) -> Option<i64> {
        self.eval_dyn(&value_of)
    }

    fn eval_dyn(&self, value_of: &dyn Fn(&str) -> Option<i64>) -> Option<i64> {
        let poly = match &self.0 {
            Repr::Unknown => return None,
            Repr::Const(value) => return Some(*value),
            Repr::Poly(poly) => poly,
        };
        let all = |of: &[Dim]| -> Option<SmallVec<[i64; 4]>> {
            of.iter().map(|d| d.eval_dyn(value_of)).collect()
        };
        let mut sum = 0i64;
        for term in poly.terms() {
            let mut product = term.coef;
            for (atom, power) in &term.mono {
                let value = match atom {
                    Atom::Symbol(name) => value_of(name)?,
                    Atom::Floor(a, b) => floor_div(a.eval_dyn(value_of)?, b.eval_dyn(value_of)?)?,
                    Atom::Min(of) => all(of)?.into_iter().min()?,
                    Atom::Max(of) => all(of)?.into_iter().max()?,
                };
                product = product.checked_mul(value.checked_pow(*power)?)?;
            }
            sum = sum.checked_add(product)?;
        }
        Some(sum)
    }

    /// The minimum (`wanted` is `Less`) or maximum (`Greater`).
    fn extremum(&self, other: &Dim, wanted: Ordering) -> Dim {
        if self.is_unknown() || other.is_unknown() {
            return Dim::UNKNOWN;
        }
        let operands = |dim: &Dim| -> SmallVec<[Dim; 4]> {
            match (dim.sole_atom(), wanted) {
                (Some(Atom::Min(of)), Ordering::Less) => of.iter().cloned().collect(),
                (Some(Atom::Max(of)), Ordering::Greater) => of.iter().cloned().collect(),
                _ => SmallVec::from_iter([dim.clone()]),
            }
        };
        let beats = |a: &Dim, b: &Dim| match wanted {
            Ordering::Less => (b - a).provably_ge(0),
            _ => (a - b).provably_ge(0),
        };
        // Of two that beat each other (equal, though perhaps not in form) the first in order
        // stays. On either side none beats another already.
        let (mut left, mut right) = (operands(self), operands(other));
        right.retain(|d| !left.contains(d));
        let loses = |a: &Dim, b: &Dim| beats(b, a) && !(a.order(b).is_lt() && beats(a, b));
        let all_left = left.clone();
        left.retain(|a| !right.iter().any(|b| loses(a, b)));
        right.retain(|b| !all_left.iter().any(|a| loses(b, a)));
        let mut kept = left;
        kept.append(&mut right);
        kept.sort_by(Dim::order);
        if kept.len() == 1 {
            return kept.remove(0);
        }
        Dim::from_atom(match wanted {
            Ordering::Less => Atom::Min(kept.to_vec().into()),
            _ => Atom::Max(kept.to_vec().into()),
        })
    }

    /// The atom, if this is one and nothing else.
    fn sole_atom(&self) -> Option<&Atom> {
        let Repr::Poly(poly) = &self.0 else {
            return None;
        };
        let [Term { mono, coef: 1 }] = poly.terms() else {
            return None;
        };
        match mono.as_slice() {
            [(atom, 1)] => Some(atom),
            _ => None,
        }
    }

    fn from_atom(atom: Atom) -> Dim {
        Dim::from_poly(Some(Poly::atom(atom)))
    }

    fn from_terms(terms: Option<Vec<Term>>) -> Dim {
        Dim::from_poly(terms.and_then(Poly::new))
    }

    fn from_poly(poly: Option<Poly>) -> Dim {
        match poly {
            Some(poly) if poly.within_limits() => Dim(match poly.terms() {
                [] => Repr::Const(0),
                [Term { mono, coef }] if mono.is_empty() => Repr::Const(*coef),
                _ => Repr::Poly(Arc::new(poly)),
            }),
            _ => Dim::UNKNOWN,
        }
    }

    /// The terms, largest monomial first; none for an unknown.
    fn to_terms(&self) -> Option<std::borrow::Cow<'_, [Term]>> {
        match &self.0 {
            Repr::Unknown => None,
            Repr::Const(value) => Some(poly::constant(*value).into()),
            Repr::Poly(poly) => Some(poly.terms().into()),
        }
    }

    /// A total order for sorting, which has nothing to do with values.
    fn order(&self, other: &Dim) -> Ordering {
        match (&self.0, &other.0) {
            (Repr::Unknown, Repr::Unknown) => Ordering::Equal,
            (Repr::Unknown, _) => Ordering::Less,
            (_, Repr::Unknown) => Ordering::Greater,
            (Repr::Const(a), Repr::Const(b)) => a.cmp(b),
            (Repr::Const(_), Repr::Poly(_)) => Ordering::Less,
            (Repr::Poly(_), Repr::Const(_)) => Ordering::Greater,
            (Repr::Poly(a), Repr::Poly(b)) => poly::order(b.terms(), a.terms()),
        }
    }

    fn add_scaled(&self, other: &Dim, factor: i64) -> Dim {
        if let (Repr::Const(a), Repr::Const(b)) = (&self.0, &other.0) {
            return b.checked_mul(factor).and_then(|b| a.checked_add(b)).into();
        }
        let (Some(a), Some(b)) = (self.to_terms(), other.to_terms()) else {
            return Dim::UNKNOWN;
        };
        Dim::from_terms(poly::add_scaled(&a, &b, factor))
    }

    fn times(&self, other: &Dim) -> Dim {
        if let (Repr::Const(a), Repr::Const(b)) = (&self.0, &other.0) {
            return a.checked_mul(*b).into();
        }
        let (Some(a), Some(b)) = (self.to_terms(), other.to_terms()) else {
            return Dim::UNKNOWN;
        };
        Dim::from_terms(poly::mul(&a, &b))
    }
}

/// `a / b` rounded down.
fn floor_div(a: i64, b: i64) -> Option<i64> {
    let quotient = a.checked_div(b)?;
    Some(if a % b != 0 && (a < 0) != (b < 0) {
        quotient - 1
    } else {
        quotient
    })
}

impl From<i64> for Dim {
    fn from(value: i64) -> Dim {
        Dim::known(value)
    }
}

/// Unknown for `None`.
impl From<Option<i64>> for Dim {
    fn from(value: Option<i64>) -> Dim {
        value.map_or(Dim::UNKNOWN, Dim::known)
    }
}

/// Unknown.
impl Default for Dim {
    fn default() -> Dim {
        Dim::UNKNOWN
    }
}

impl Neg for &Dim {
    type Output = Dim;

    fn neg(self) -> Dim {
        Dim::known(0).add_scaled(self, -1)
    }
}

impl Neg for Dim {
    type Output = Dim;

    fn neg(self) -> Dim {
        -&self
    }
}

macro_rules! operator {
    ($trait:ident, $method:ident, |$a:ident, $b:ident| $result:expr) => {
        impl $trait<&Dim> for &Dim {
            type Output = Dim;

            fn $method(self, $b: &Dim) -> Dim {
                let $a = self;
                $result
            }
        }
        operator!($trait, $method, Dim, &Dim, |a, b| (&a, b));
        operator!($trait, $method, &Dim, Dim, |a, b| (a, &b));
        operator!($trait, $method, Dim, Dim, |a, b| (&a, &b));
        operator!($trait, $method, &Dim, i64, |a, b| (a, &Dim::known(b)));
        operator!($trait, $method, Dim, i64, |a, b| (&a, &Dim::known(b)));
        operator!($trait, $method, i64, &Dim, |a, b| (&Dim::known(a), b));
        operator!($trait, $method, i64, Dim, |a, b| (&Dim::known(a), &b));
    };
    ($trait:ident, $method:ident, $left:ty, $right:ty, |$a:ident, $b:ident| ($l:expr, $r:expr)) => {
        impl $trait<$right> for $left {
            type Output = Dim;

            fn $method(self, $b: $right) -> Dim {
                let $a = self;
                $trait::$method($l, $r)
            }
        }
    };
}

operator!(Add, add, |a, b| a.add_scaled(b, 1));
operator!(Sub, sub, |a, b| a.add_scaled(b, -1));
operator!(Mul, mul, |a, b| a.times(b));

impl std::iter::Sum for Dim {
    fn sum<I: Iterator<Item = Dim>>(dims: I) -> Dim {
        dims.fold(Dim::known(0), |a, b| a + b)
    }
}

impl std::iter::Product for Dim {
    fn product<I: Iterator<Item = Dim>>(dims: I) -> Dim {
        dims.fold(Dim::known(1), |a, b| a * b)
    }
}

#[cfg(test)]
mod tests;
