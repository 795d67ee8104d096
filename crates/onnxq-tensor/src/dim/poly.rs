//! Polynomials with `i64` coefficients: sorted lists of terms, and the ring operations on them.
//!
//! *Invariants* of a list of terms: monomials strictly descend in graded lexicographic order (an
//! admissible order, so that division by a polynomial has one remainder); no coefficient is zero;
//! within a monomial atoms strictly ascend and powers are at least one.

use std::{cmp::Ordering, sync::Arc};

use smallvec::SmallVec;

use super::{Dim, Repr};

/// Shapes in real models have a handful of terms; past these limits a dimension is unknown.
const MAX_TERMS: usize = 64;
const MAX_DEGREE: u32 = 16;
const MAX_DEPTH: u32 = 16;
/// Atoms and terms together, at all depths.
const MAX_SIZE: u32 = 512;

/// What a polynomial is made of.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) enum Atom {
    /// A name; at least zero.
    Symbol(Arc<str>),
    /// `floor(dividend / divisor)`, reduced by [`divide`](super::divide).
    Floor(Dim, Dim),
    /// The smallest of two or more, sorted, none of which is known to be another's better.
    Min(Arc<[Dim]>),
    /// The largest, likewise.
    Max(Arc<[Dim]>),
}

/// A product of powers of atoms.
pub(super) type Monomial = SmallVec<[(Atom, u32); 2]>;

#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Term {
    pub(super) mono: Monomial,
    pub(super) coef: i64,
}

#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Poly {
    terms: Vec<Term>,
    size: u32,
    depth: u32,
}

impl Poly {
    /// `terms` in normal form; `None` where there are too many.
    pub(super) fn new(terms: Vec<Term>) -> Option<Poly> {
        let (mut size, mut depth) = (0u32, 0);
        if terms.len() > MAX_TERMS {
            return None;
        }
        for term in &terms {
            size = size.saturating_add(1);
            // The least integer has no negative.
            let least = term.coef == i64::MIN && (terms.len() > 1 || !term.mono.is_empty());
            if least || degree(&term.mono) > MAX_DEGREE {
                return None;
            }
            for (atom, _) in &term.mono {
                let (s, d) = atom.extent();
                size = size.saturating_add(s);
                depth = depth.max(d);
            }
        }
        Some(Poly { terms, size, depth })
    }

    pub(super) fn atom(atom: Atom) -> Poly {
        let (size, depth) = atom.extent();
        let mono = SmallVec::from_iter([(atom, 1)]);
        Poly {
            terms: vec![Term { mono, coef: 1 }],
            size: size.saturating_add(1),
            depth,
        }
    }

    pub(super) fn terms(&self) -> &[Term] {
        &self.terms
    }

    pub(super) fn within_limits(&self) -> bool {
        self.size <= MAX_SIZE && self.depth <= MAX_DEPTH
    }
}

impl Atom {
    /// Size and depth.
    fn extent(&self) -> (u32, u32) {
        let of: &mut dyn Iterator<Item = &Dim> = match self {
            Atom::Symbol(_) => return (1, 0),
            Atom::Floor(a, b) => &mut [a, b].into_iter(),
            Atom::Min(of) | Atom::Max(of) => &mut of.iter(),
        };
        of.fold((1, 1), |(size, depth), dim| match &dim.0 {
            Repr::Poly(p) => (size.saturating_add(p.size), depth.max(p.depth + 1)),
            _ => (size + 1, depth),
        })
    }

    fn order(&self, other: &Atom) -> Ordering {
        let rank = |a: &Atom| match a {
            Atom::Symbol(_) => 0,
            Atom::Floor(..) => 1,
            Atom::Min(_) => 2,
            Atom::Max(_) => 3,
        };
        match (self, other) {
            (Atom::Symbol(a), Atom::Symbol(b)) => a.cmp(b),
            (Atom::Floor(a, b), Atom::Floor(c, d)) => a.order(c).then_with(|| b.order(d)),
            (Atom::Min(a), Atom::Min(b)) | (Atom::Max(a), Atom::Max(b)) => {
                let pairs = a.iter().zip(b.iter());
                first_difference(pairs.map(|(a, b)| a.order(b))).then(a.len().cmp(&b.len()))
            }
            _ => rank(self).cmp(&rank(other)),
        }
    }
}

fn first_difference(mut orders: impl Iterator<Item = Ordering>) -> Ordering {
    orders.find(|o| o.is_ne()).unwrap_or(Ordering::Equal)
}

pub(super) fn constant(value: i64) -> Vec<Term> {
    let term = Term {
        mono: Monomial::new(),
        coef: value,
    };
    if value == 0 { Vec::new() } else { vec![term] }
}

fn degree(mono: &Monomial) -> u32 {
    mono.iter()
        .fold(0u32, |sum, (_, power)| sum.saturating_add(*power))
}

/// Graded lexicographic order.
pub(super) fn order_monomials(a: &Monomial, b: &Monomial) -> Ordering {
    degree(a).cmp(&degree(b)).then_with(|| {
        // The monomial that has more of the earliest atom in which they differ is the larger.
        first_difference(
            a.iter()
                .zip(b)
                .map(|((a, m), (b, n))| b.order(a).then(m.cmp(n))),
        )
    })
}

pub(super) fn order(a: &[Term], b: &[Term]) -> Ordering {
    let pairs = a.iter().zip(b);
    first_difference(
        pairs.map(|(a, b)| order_monomials(&a.mono, &b.mono).then(a.coef.cmp(&b.coef))),
    )
    .then(a.len().cmp(&b.len()))
}

/// `a + factor * b`.
pub(super) fn add_scaled(a: &[Term], b: &[Term], factor: i64) -> Option<Vec<Term>> {
    let mut sum = Vec::with_capacity(a.len() + b.len());
    let (mut a, mut b) = (a.iter().peekable(), b.iter().peekable());
    loop {
        let order = match (a.peek(), b.peek()) {
            (Some(x), Some(y)) => order_monomials(&x.mono, &y.mono),
            (Some(_), None) => Ordering::Greater,
            (None, Some(_)) => Ordering::Less,
            (None, None) => return Some(sum),
        };
        let x = if order.is_ge() { a.next() } else { None };
        let y = if order.is_le() { b.next() } else { None };
        let left = x.map_or(0, |t| t.coef);
        let right = y.map_or(Some(0), |t| t.coef.checked_mul(factor))?;
        let coef = left.checked_add(right)?;
        if let (Some(t), true) = (x.or(y), coef != 0) {
            sum.push(Term {
                mono: t.mono.clone(),
                coef,
            });
        }
    }
}

pub(super) fn mul(a: &[Term], b: &[Term]) -> Option<Vec<Term>> {
    let mut products = Vec::with_capacity(a.len() * b.len());
    for x in a {
        for y in b {
            let coef = x.coef.checked_mul(y.coef)?;
            products.push(Term {
                mono: mul_monomials(&x.mono, &y.mono),
                coef,
            });
        }
    }
    products.sort_by(|x, y| order_monomials(&y.mono, &x.mono));
    let mut sum: Vec<Term> = Vec::with_capacity(products.len());
    for term in products {
        match sum.last_mut() {
            Some(last) if last.mono == term.mono => last.coef = last.coef.checked_add(term.coef)?,
            _ => sum.push(term),
        }
    }
    sum.retain(|t| t.coef != 0);
    Some(sum)
}

fn mul_monomials(a: &Monomial, b: &Monomial) -> Monomial {
    let mut product = Monomial::with_capacity(a.len() + b.len());
    let (mut a, mut b) = (a.iter().peekable(), b.iter().peekable());
    while let (Some((x, m)), Some((y, n))) = (a.peek(), b.peek()) {
        let order = x.order(y);
        // Powers are far below the limit on degrees, so that they cannot overflow.
        let power = if order.is_le() { *m } else { 0 } + if order.is_ge() { *n } else { 0 };
        product.push((if order.is_le() { x.clone() } else { y.clone() }, power));
        if order.is_le() {
            a.next();
        }
        if order.is_ge() {
            b.next();
        }
    }
    product.extend(a.cloned());
    product.extend(b.cloned());
    product
}

/// `a / b`, if `b` divides it.
pub(super) fn divide_monomials(a: &Monomial, b: &Monomial) -> Option<Monomial> {
    let mut quotient = Monomial::new();
    let mut b = b.iter().peekable();
    for (atom, power) in a {
        let less = match b.peek() {
            Some((other, n)) if other == atom => {
                b.next();
                *n
            }
            _ => 0,
        };
        match power.checked_sub(less)? {
            0 => {}
            rest => quotient.push((atom.clone(), rest)),
        }
    }
    b.peek().is_none().then_some(quotient)
}

/// The largest monomial that divides both.
pub(super) fn common_monomial(a: &Monomial, b: &Monomial) -> Monomial {
    a.iter()
        .filter_map(|(atom, m)| {
            let (_, n) = b.iter().find(|(other, _)| other == atom)?;
            Some((atom.clone(), *m.min(n)))
        })
        .collect()
}
