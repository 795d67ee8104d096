//! Floor division in normal form.
//!
//! By a constant `c > 0`:
//!
//! ```text
//! floor((c*q + r) / c)            =  q + floor(r / c)              exact part; 0 <= constant of r < c
//! floor(-r / c)                   = -floor((r + c - 1) / c)        r begins with a positive term
//! floor((g*r + k) / (g*c))        =  floor((r + floor(k/g)) / c)   common factor
//! floor((floor(p/d) + m) / c)     =  floor((p + d*m) / (c*d))      nested, d > 0
//! ```
//!
//! By a polynomial `b`: polynomial division takes out the exact part, then common factors of
//! what remains and of `b` are cancelled. Both ways a quotient that bounds show to be constant
//! becomes this constant.

use super::{
    Dim, Repr,
    poly::{self, Atom, Term},
};

/// Steps of a polynomial division before it is given up, and the dimension unknown. Real
/// divisions take as many as the quotient has terms.
const MAX_STEPS: usize = 256;

/// `floor(a / b)`, not both constant. `None` is unknown.
pub(super) fn floor(a: &Dim, b: &Dim) -> Option<Dim> {
    match b.0 {
        Repr::Const(i64::MIN) => None,
        Repr::Const(c) if c < 0 => by_constant(&-a, -c),
        Repr::Const(c) => by_constant(a, c),
        Repr::Unknown => None,
        Repr::Poly(_) => by_polynomial(a, b),
    }
}

fn by_constant(a: &Dim, c: i64) -> Option<Dim> {
    if c <= 0 {
        return None;
    }
    let (mut quotient, mut rest, mut constant) = (Vec::new(), Vec::new(), 0);
    for term in a.to_terms()?.iter() {
        let (q, r) = if term.mono.is_empty() {
            constant = term.coef.rem_euclid(c);
            (term.coef.div_euclid(c), 0)
        } else {
            (term.coef / c, term.coef % c)
        };
        let of = |coef| Term {
            mono: term.mono.clone(),
            coef,
        };
        quotient.extend((q != 0).then(|| of(q)));
        rest.extend((r != 0).then(|| of(r)));
    }
    let quotient = Dim::from_terms(Some(quotient));
    let Some(leading) = rest.first() else {
        return Some(quotient);
    };
    let negative = leading.coef < 0;
    if negative {
        constant = c - 1 - constant;
    }
    let mut divisor = c;
    for term in &rest {
        divisor = gcd(divisor, term.coef);
    }
    for term in &mut rest {
        // Not i64::MIN, being smaller than c.
        term.coef = if negative { -term.coef } else { term.coef } / divisor;
    }
    let rest = Dim::from_terms(Some(rest)) + constant / divisor;
    let floor = floor_of_reduced(&rest, c / divisor)?;
    Some(if negative {
        quotient - floor
    } else {
        quotient + floor
    })
}

/// `floor(a / c)` where only nested divisions and bounds are left to consider.
fn floor_of_reduced(a: &Dim, c: i64) -> Option<Dim> {
    if c == 1 {
        return Some(a.clone());
    }
    if let (Some(low), Some(high)) = (a.lower_bound(), a.upper_bound())
        && low.div_euclid(c) == high.div_euclid(c)
    {
        return Some(Dim::known(low.div_euclid(c)));
    }
    if let Some((dividend, divisor)) = join_nested(a, c) {
        return by_constant(&dividend, divisor);
    }
    Some(Dim::from_atom(Atom::Floor(a.clone(), Dim::known(c))))
}

/// `(p + d*m, c*d)` for `a = floor(p/d) + m`, if there is exactly one such floor in `a` and the
/// numbers stay small.
fn join_nested(a: &Dim, c: i64) -> Option<(Dim, i64)> {
    let terms = a.to_terms()?;
    let mut nested = terms.iter().filter_map(|term| match term.mono.as_slice() {
        [(Atom::Floor(p, d), 1)] if term.coef == 1 => Some((term, p, d.as_const()?)),
        _ => None,
    });
    let (Some((term, p, d)), None) = (nested.next(), nested.next()) else {
        return None;
    };
    let m = Dim::from_terms(poly::add_scaled(&terms, std::slice::from_ref(term), -1));
    let dividend = p + m * d;
    (!dividend.is_unknown()).then_some((dividend, c.checked_mul(d)?))
}

fn by_polynomial(a: &Dim, b: &Dim) -> Option<Dim> {
    let (terms, divisor) = (a.to_terms()?, b.to_terms()?);
    if divisor[0].coef < 0 {
        let (a, b) = (-a, -b);
        return if b.is_unknown() { None } else { floor(&a, &b) };
    }
    let (quotient, rest) = div_rem(&terms, &divisor)?;
    let quotient = Dim::from_terms(Some(quotient));
    if rest.is_empty() {
        return Some(quotient);
    }
    if let Some((rest, divisor)) = cancel_common(&rest, &divisor) {
        let (rest, divisor) = (Dim::from_terms(Some(rest)), Dim::from_terms(Some(divisor)));
        return Some(quotient + rest.floor_div(&divisor));
    }
    let rest = Dim::from_terms(Some(rest));
    if rest.provably_ge(0) && (b - &rest).provably_ge(1) {
        return Some(quotient);
    }
    if rest.provably_le(-1) && (b + &rest).provably_ge(0) {
        return Some(quotient - 1);
    }
    Some(quotient + Dim::from_atom(Atom::Floor(rest, b.clone())))
}

/// Quotient and remainder: no term of the remainder is divisible by the leading term of `b`,
/// the coefficients rounded towards zero. That of `b` is positive.
fn div_rem(a: &[Term], b: &[Term]) -> Option<(Vec<Term>, Vec<Term>)> {
    let (mut dividend, mut quotient, mut rest) = (a.to_vec(), Vec::new(), Vec::new());
    for _ in 0..MAX_STEPS {
        let Some(leading) = dividend.first() else {
            return Some((quotient, rest));
        };
        let mono = poly::divide_monomials(&leading.mono, &b[0].mono);
        let coef = leading.coef / b[0].coef;
        if let (Some(mono), true) = (mono, coef != 0) {
            let step = Term { mono, coef };
            let product = poly::mul(std::slice::from_ref(&step), b)?;
            dividend = poly::add_scaled(&dividend, &product, -1)?;
            quotient.push(step);
        } else {
            rest.push(dividend.remove(0));
        }
    }
    None
}

/// Both without their common factors: a number, a monomial. `None` if there are none.
fn cancel_common(a: &[Term], b: &[Term]) -> Option<(Vec<Term>, Vec<Term>)> {
    let both = || a.iter().chain(b);
    let number = both().fold(0, |g, t| gcd(g, t.coef));
    let mono = both()
        .skip(1)
        .fold(a[0].mono.clone(), |m, t| poly::common_monomial(&m, &t.mono));
    if number == 1 && mono.is_empty() {
        return None;
    }
    let cancel = |terms: &[Term]| -> Option<Vec<Term>> {
        let one = |t: &Term| {
            let mono = poly::divide_monomials(&t.mono, &mono)?;
            Some(Term {
                mono,
                coef: t.coef / number,
            })
        };
        terms.iter().map(one).collect()
    };
    Some((cancel(a)?, cancel(b)?))
}

/// The greatest common divisor, positive unless both are zero. Of `i64::MIN` with itself or
/// zero it would overflow; 1 is a common divisor as well.
fn gcd(a: i64, b: i64) -> i64 {
    let (mut a, mut b) = (a.unsigned_abs(), b.unsigned_abs());
    while b != 0 {
        (a, b) = (b, a % b);
    }
    i64::try_from(a).unwrap_or(1)
}
