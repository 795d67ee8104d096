//! What is certain about the value of a dimension when every symbol is at least zero.
//!
//! Interval arithmetic, term by term. Where that leaves no bound, atoms with relations to their
//! operands are replaced by these one after the other: `p - c + 1 <= c*floor(p/c) <= p`,
//! `max(a, ..) >= a`, `min(a, ..) <= a`. This shows that `H - 2*floor(H/2)` is 0 or 1.

use super::{
    Dim, Repr,
    poly::{self, Atom, Monomial, Term},
};

/// Atoms looked at for one answer. It bounds the time; what is not found within is not known.
const BUDGET: u32 = 2000;

/// Bounds of a value, `None` where there is none.
type Interval = (Option<i64>, Option<i64>);

impl Dim {
    /// A value that this is never below.
    pub fn lower_bound(&self) -> Option<i64> {
        lower(&self.to_terms()?, &mut { BUDGET })
    }

    /// A value that this is never above.
    pub fn upper_bound(&self) -> Option<i64> {
        upper(&self.to_terms()?, &mut { BUDGET })
    }

    /// Whether this is certainly `value` or more. An unknown dimension may be anything.
    pub fn provably_ge(&self, value: i64) -> bool {
        self.lower_bound().is_some_and(|bound| bound >= value)
    }

    /// Whether this is certainly `value` or less.
    pub fn provably_le(&self, value: i64) -> bool {
        self.upper_bound().is_some_and(|bound| bound <= value)
    }

    /// Whether this is certainly 1 or more.
    pub fn known_positive(&self) -> bool {
        self.provably_ge(1)
    }

    /// Whether the two certainly differ, whatever the symbols are.
    pub fn provably_ne(&self, other: &Dim) -> bool {
        let difference = self - other;
        difference.provably_ge(1) || difference.provably_le(-1)
    }
}

fn upper(terms: &[Term], budget: &mut u32) -> Option<i64> {
    let negated = poly::add_scaled(&[], terms, -1)?;
    lower(&negated, budget)?.checked_neg()
}

fn lower(terms: &[Term], budget: &mut u32) -> Option<i64> {
    by_intervals(terms, budget).or_else(|| by_relations(terms, budget))
}

fn by_intervals(terms: &[Term], budget: &mut u32) -> Option<i64> {
    let mut sum = 0i64;
    for term in terms {
        let (low, high) = monomial(&term.mono, budget);
        let bound = if term.coef > 0 { low } else { high };
        sum = sum.checked_add(bound?.checked_mul(term.coef)?)?;
    }
    Some(sum)
}

fn by_relations(terms: &[Term], budget: &mut u32) -> Option<i64> {
    for (i, term) in terms.iter().enumerate() {
        let [(atom, 1)] = term.mono.as_slice() else {
            continue;
        };
        *budget = budget.checked_sub(1)?;
        let without = [&terms[..i], &terms[i + 1..]].concat();
        match atom {
            // c * (without + coef * floor(p/c)) >= c * without + coef * p, minus what rounding
            // may lose where coef > 0.
            Atom::Floor(p, c) => {
                let Some(c) = c.as_const() else { continue };
                let loss = if term.coef > 0 {
                    term.coef.checked_mul(c - 1)?
                } else {
                    0
                };
                let scaled = poly::add_scaled(&[], &without, c)?;
                let relaxed = poly::add_scaled(&scaled, &p.to_terms()?, term.coef)?;
                let bound = lower(&relaxed, budget)?.checked_sub(loss)?;
                return super::floor_div(bound.checked_add(c - 1)?, c);
            }
            Atom::Max(of) if term.coef > 0 => return best(&without, of, term.coef, budget),
            Atom::Min(of) if term.coef < 0 => return best(&without, of, term.coef, budget),
            _ => {}
        }
    }
    None
}

/// The best of the bounds of `without + coef * a` for the operands `a`.
fn best(without: &[Term], of: &[Dim], coef: i64, budget: &mut u32) -> Option<i64> {
    let bounds = of.iter().map(|a| {
        let relaxed = poly::add_scaled(without, &a.to_terms()?, coef)?;
        lower(&relaxed, budget)
    });
    bounds.flatten().max()
}

fn monomial(mono: &Monomial, budget: &mut u32) -> Interval {
    let mut product = (Some(1), Some(1));
    for (factor, power) in mono {
        let factor = interval(factor, budget);
        for _ in 0..*power {
            product = multiply(product, factor);
        }
    }
    product
}

fn interval(atom: &Atom, budget: &mut u32) -> Interval {
    let Some(rest) = budget.checked_sub(1) else {
        return (None, None);
    };
    *budget = rest;
    let mut bounds = |dim: &Dim| match &dim.0 {
        Repr::Unknown => (None, None),
        Repr::Const(c) => (Some(*c), Some(*c)),
        Repr::Poly(p) => (lower(p.terms(), budget), upper(p.terms(), budget)),
    };
    match atom {
        Atom::Symbol(_) => (Some(0), None),
        Atom::Floor(a, b) => {
            let (a, b) = (bounds(a), bounds(b));
            match b {
                (Some(c), Some(d)) if c == d && c > 0 => {
                    (a.0.map(|v| v.div_euclid(c)), a.1.map(|v| v.div_euclid(c)))
                }
                // A divisor is not zero, so that here it is 1 or more.
                (Some(0..), _) => {
                    let low = a.0.filter(|&low| low < 0).or(a.0.map(|_| 0));
                    (low, a.1.map(|high| high.max(-1)))
                }
                _ => (None, None),
            }
        }
        Atom::Min(of) => of
            .iter()
            .map(&mut bounds)
            .fold((Some(i64::MAX), None), |a, b| {
                (
                    a.0.zip(b.0).map(|(x, y)| x.min(y)),
                    [a.1, b.1].into_iter().flatten().min(),
                )
            }),
        Atom::Max(of) => of
            .iter()
            .map(&mut bounds)
            .fold((None, Some(i64::MIN)), |a, b| {
                (
                    [a.0, b.0].into_iter().flatten().max(),
                    a.1.zip(b.1).map(|(x, y)| x.max(y)),
                )
            }),
    }
}

fn multiply(a: Interval, b: Interval) -> Interval {
    match (a, b) {
        ((Some(a @ 0..), high_a), (Some(b @ 0..), high_b)) => (
            a.checked_mul(b),
            high_a.zip(high_b).and_then(|(x, y)| x.checked_mul(y)),
        ),
        ((Some(a), Some(b)), (Some(c), Some(d))) => {
            let corners = [(a, c), (a, d), (b, c), (b, d)];
            match corners.map(|(x, y)| x.checked_mul(y)) {
                [Some(w), Some(x), Some(y), Some(z)] => {
                    (Some(w.min(x).min(y).min(z)), Some(w.max(x).max(y).max(z)))
                }
                _ => (None, None),
            }
        }
        _ => (None, None),
    }
}
