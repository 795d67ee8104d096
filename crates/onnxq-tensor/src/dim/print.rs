//! The text of a dimension, as ONNX tools write `dim_param`: `3*N`, `N + 1`, `floor(H/2)`,
//! `max(1, N)`, `N**2`. A lone symbol is its own text. A symbol that would be read as something
//! else is put in double quotes, with `\"` and `\\`.

use std::fmt::{Debug, Display, Formatter, Result, Write};

use super::{
    Dim, Repr,
    parse::{is_identifier, parse},
    poly::{Atom, Term},
};

impl Display for Dim {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self.is_symbol() {
            Some(name) if is_identifier(name) || parse(name) == *self => f.write_str(name),
            _ => sum(self, f),
        }
    }
}

impl Debug for Dim {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        Display::fmt(self, f)
    }
}

fn sum(dim: &Dim, f: &mut Formatter<'_>) -> Result {
    let poly = match &dim.0 {
        Repr::Unknown => return f.write_char('?'),
        Repr::Const(value) => return write!(f, "{value}"),
        Repr::Poly(poly) => poly,
    };
    for (i, term) in poly.terms().iter().enumerate() {
        match (i, term.coef < 0) {
            (0, false) => {}
            (0, true) => f.write_char('-')?,
            (_, false) => f.write_str(" + ")?,
            (_, true) => f.write_str(" - ")?,
        }
        magnitude(term, f)?;
    }
    Ok(())
}

/// The term without its sign.
fn magnitude(term: &Term, f: &mut Formatter<'_>) -> Result {
    let coef = term.coef.unsigned_abs();
    if term.mono.is_empty() {
        return write!(f, "{coef}");
    }
    if coef != 1 {
        write!(f, "{coef}*")?;
    }
    for (i, (factor, power)) in term.mono.iter().enumerate() {
        if i > 0 {
            f.write_char('*')?;
        }
        atom(factor, f)?;
        if *power > 1 {
            write!(f, "**{power}")?;
        }
    }
    Ok(())
}

fn atom(atom: &Atom, f: &mut Formatter<'_>) -> Result {
    match atom {
        Atom::Symbol(name) if is_identifier(name) => f.write_str(name),
        Atom::Symbol(name) => quoted(name, f),
        Atom::Floor(a, b) => {
            let constant = |d: &Dim| {
                d.to_terms().map_or(0, |t| match t.last() {
                    Some(Term { mono, coef }) if mono.is_empty() => *coef,
                    _ => 0,
                })
            };
            match b.as_const() {
                Some(c) if constant(a) == c - 1 => fraction("ceil", &(a - (c - 1)), b, f),
                _ => fraction("floor", a, b, f),
            }
        }
        Atom::Min(of) => call("min", of, f),
        Atom::Max(of) => call("max", of, f),
    }
}

fn call(name: &str, of: &[Dim], f: &mut Formatter<'_>) -> Result {
    write!(f, "{name}(")?;
    for (i, dim) in of.iter().enumerate() {
        if i > 0 {
            f.write_str(", ")?;
        }
        sum(dim, f)?;
    }
    f.write_char(')')
}

fn fraction(name: &str, a: &Dim, b: &Dim, f: &mut Formatter<'_>) -> Result {
    write!(f, "{name}(")?;
    let single = |d: &Dim| d.to_terms().is_some_and(|t| t.len() < 2);
    if single(a) {
        sum(a, f)?;
    } else {
        f.write_char('(')?;
        sum(a, f)?;
        f.write_char(')')?;
    }
    f.write_char('/')?;
    if b.as_const().is_some() || b.sole_atom().is_some() {
        sum(b, f)?;
    } else {
        f.write_char('(')?;
        sum(b, f)?;
        f.write_char(')')?;
    }
    f.write_char(')')
}

fn quoted(name: &str, f: &mut Formatter<'_>) -> Result {
    f.write_char('"')?;
    for c in name.chars() {
        if matches!(c, '"' | '\\') {
            f.write_char('\\')?;
        }
        f.write_char(c)?;
    }
    f.write_char('"')
}
