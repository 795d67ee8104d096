//! Reads the text of a dimension. What is not an expression is one symbol.
//!
//! ```text
//! sum     = product (('+' | '-') product)*
//! product = signed (('*' | '/' | '//' | '%') signed)*
//! signed  = '-'* power
//! power   = primary ('**' digits)?
//! primary = digits | name | '"' … '"' | '(' sum ')' | function '(' sum (',' sum)* ')'
//! ```
//!
//! Functions are `floor`, `ceil`, `min`, `max`, `mod`, in the spellings of Python and of SymPy.

use std::{iter::Peekable, str::CharIndices};

use super::Dim;

/// Nesting of parentheses; what [`print`](super::print) writes stays below.
const MAX_NESTING: usize = 64;
/// Operands in one text, likewise. It bounds the time that a hostile text can take.
const MAX_OPERANDS: usize = 4096;

pub(super) fn parse(text: &str) -> Dim {
    if is_identifier(text) {
        return Dim::symbol(text);
    }
    match text.parse() {
        Ok(value) if !text.starts_with('+') => Dim::known(value),
        _ if matches!(text, "" | "?") => Dim::UNKNOWN,
        _ => expression(text).unwrap_or_else(|| Dim::symbol(text)),
    }
}

/// Whether `name` can stand in an expression without quotes.
pub(super) fn is_identifier(name: &str) -> bool {
    name.starts_with(starts_identifier) && name.chars().all(continues_identifier)
}

fn starts_identifier(c: char) -> bool {
    c.is_alphabetic() || c == '_'
}

fn continues_identifier(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '.' | ':')
}

/// A value with a fraction, which only `floor` and its like make a dimension.
struct Ratio {
    num: Dim,
    den: Dim,
}

impl Ratio {
    fn whole(num: Dim) -> Option<Ratio> {
        (!num.is_unknown()).then_some(Ratio {
            num,
            den: Dim::known(1),
        })
    }

    fn floor(&self) -> Option<Dim> {
        Some(self.num.floor_div(&self.den)).filter(|d| !d.is_unknown())
    }

    fn add(&self, other: &Ratio, sign: i64) -> Option<Ratio> {
        let (num, den) = if self.den == other.den {
            (&self.num + &other.num * sign, self.den.clone())
        } else {
            (
                &self.num * &other.den + &other.num * &self.den * sign,
                &self.den * &other.den,
            )
        };
        Ratio { num, den }.checked()
    }

    fn mul(&self, other: &Ratio) -> Option<Ratio> {
        Ratio {
            num: &self.num * &other.num,
            den: &self.den * &other.den,
        }
        .checked()
    }

    fn div(&self, other: &Ratio) -> Option<Ratio> {
        Ratio {
            num: &self.num * &other.den,
            den: &self.den * &other.num,
        }
        .checked()
    }

    fn checked(self) -> Option<Ratio> {
        let bad = self.num.is_unknown() || self.den.is_unknown() || self.den.as_const() == Some(0);
        (!bad).then_some(self)
    }
}

/// `None` for text that is not an expression, and for one that comes to nothing known.
fn expression(text: &str) -> Option<Dim> {
    // Space around it would be lost; then it is a name.
    if text.trim() != text {
        return None;
    }
    let mut parser = Parser {
        text,
        chars: text.char_indices().peekable(),
        nesting: 0,
        operands: 0,
    };
    let value = parser.sum()?;
    parser.chars.peek().is_none().then(|| value.floor())?
}

struct Parser<'a> {
    text: &'a str,
    chars: Peekable<CharIndices<'a>>,
    nesting: usize,
    operands: usize,
}

impl Parser<'_> {
    fn peek(&mut self) -> Option<char> {
        while self.chars.next_if(|(_, c)| *c == ' ').is_some() {}
        self.chars.peek().map(|(_, c)| *c)
    }

    fn accept(&mut self, c: char) -> bool {
        self.peek() == Some(c) && self.chars.next().is_some()
    }

    /// The same, without space before it.
    fn accept_next(&mut self, c: char) -> bool {
        self.chars.next_if(|(_, next)| *next == c).is_some()
    }

    fn at(&mut self) -> usize {
        self.chars.peek().map_or(self.text.len(), |(at, _)| *at)
    }

    fn take_while(&mut self, accepted: impl Fn(char) -> bool) -> &str {
        let start = self.at();
        while self.chars.next_if(|(_, c)| accepted(*c)).is_some() {}
        let end = self.at();
        &self.text[start..end]
    }

    fn sum(&mut self) -> Option<Ratio> {
        self.nesting += 1;
        if self.nesting > MAX_NESTING {
            return None;
        }
        let mut sum = self.product()?;
        loop {
            let sign = match self.peek() {
                Some('+') => 1,
                Some('-') => -1,
                _ => break,
            };
            self.chars.next();
            sum = sum.add(&self.product()?, sign)?;
        }
        self.nesting -= 1;
        Some(sum)
    }

    fn product(&mut self) -> Option<Ratio> {
        let mut product = self.signed()?;
        loop {
            product = if self.accept('*') {
                product.mul(&self.signed()?)?
            } else if self.accept('%') {
                Ratio::whole(product.floor()?.rem(&self.signed()?.floor()?))?
            } else if self.accept('/') {
                let whole = self.accept_next('/');
                let quotient = product.div(&self.signed()?)?;
                if whole {
                    Ratio::whole(quotient.floor()?)?
                } else {
                    quotient
                }
            } else {
                return Some(product);
            };
        }
    }

    fn signed(&mut self) -> Option<Ratio> {
        let mut negative = false;
        while self.accept('-') {
            negative = !negative;
        }
        if negative && self.peek().is_some_and(|c| c.is_ascii_digit()) {
            // Together, so that the least integer can be read.
            return Ratio::whole(Dim::known(format!("-{}", self.digits()?).parse().ok()?));
        }
        let value = self.power()?;
        if negative {
            Ratio::whole(Dim::known(0))?.add(&value, -1)
        } else {
            Some(value)
        }
    }

    fn digits(&mut self) -> Option<String> {
        let digits = self.take_while(|c| c.is_ascii_digit()).to_owned();
        let ends = !self
            .chars
            .peek()
            .is_some_and(|(_, c)| continues_identifier(*c));
        ends.then_some(digits)
    }

    fn power(&mut self) -> Option<Ratio> {
        let base = self.primary()?;
        self.peek();
        if !self.text[self.at()..].starts_with("**") {
            return Some(base);
        }
        self.chars.nth(1);
        self.peek();
        let power: u32 = self.digits()?.parse().ok()?;
        let mut product = Ratio::whole(Dim::known(1))?;
        // Larger powers are of 0 or 1, or overflow.
        for _ in 0..power.min(64) {
            product = product.mul(&base)?;
        }
        (power <= 64).then_some(product)
    }

    fn primary(&mut self) -> Option<Ratio> {
        self.operands += 1;
        let first = self.peek().filter(|_| self.operands <= MAX_OPERANDS)?;
        if first.is_ascii_digit() {
            return Ratio::whole(Dim::known(self.digits()?.parse().ok()?));
        }
        if first == '(' {
            let mut operands = self.operands()?;
            return if operands.len() == 1 {
                operands.pop()
            } else {
                None
            };
        }
        if first == '"' {
            return Ratio::whole(Dim::symbol(&self.quoted()?));
        }
        if !starts_identifier(first) {
            return None;
        }
        let name = self.take_while(continues_identifier).to_owned();
        if self.chars.peek().is_none_or(|(_, c)| *c != '(') {
            return Ratio::whole(Dim::symbol(&name));
        }
        let operands = self.operands()?;
        let dims = || {
            operands
                .iter()
                .map(Ratio::floor)
                .collect::<Option<Vec<Dim>>>()
        };
        Ratio::whole(match (name.as_str(), operands.as_slice()) {
            ("floor", [x]) => x.floor()?,
            ("ceil" | "ceiling", [x]) => x.num.ceil_div(&x.den),
            ("mod" | "Mod", [_, _]) => {
                let dims = dims()?;
                dims[0].rem(&dims[1])
            }
            ("min" | "Min", _) => dims()?.into_iter().reduce(|a, b| a.min(&b))?,
            ("max" | "Max", _) => dims()?.into_iter().reduce(|a, b| a.max(&b))?,
            _ => return None,
        })
    }

    /// `(a, b, …)`, at least one.
    fn operands(&mut self) -> Option<Vec<Ratio>> {
        self.accept('(').then_some(())?;
        let mut operands = vec![self.sum()?];
        while self.accept(',') {
            operands.push(self.sum()?);
        }
        self.accept(')').then_some(operands)
    }

    fn quoted(&mut self) -> Option<String> {
        self.chars.next();
        let mut name = String::new();
        loop {
            match self.chars.next()?.1 {
                '"' => return Some(name),
                '\\' => name.push(
                    self.chars
                        .next()
                        .filter(|(_, c)| matches!(c, '"' | '\\'))?
                        .1,
                ),
                c => name.push(c),
            }
        }
    }
}
