//! Numbers as text, the way C's `printf` writes and `strtod` and `strtoll` read them.

use bytes::Bytes;

use crate::{DType, Tensor, TensorError};

/// The numbers that `strings` begin with, as the widest type of the kind of `to`.
pub(super) fn read(strings: &[Bytes], to: DType) -> Result<Tensor, TensorError> {
    fn all<T: crate::Element>(
        strings: &[Bytes],
        to: DType,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<Tensor, TensorError> {
        let one = |bytes: &Bytes| {
            let text = String::from_utf8_lossy(bytes);
            let text = text.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == '\x0b');
            read(text).ok_or_else(|| TensorError::Text {
                text: text.chars().take(40).collect(),
                expected: to,
            })
        };
        Ok(Tensor::vector(
            strings.iter().map(one).collect::<Result<Vec<T>, _>>()?,
        ))
    }
    match to {
        _ if to.is_float() => all(strings, to, float),
        _ if to.is_signed_int() => all(strings, to, signed),
        _ if to.is_int() || to == DType::Bool => all(strings, to, unsigned),
        _ => Err(TensorError::Kind {
            expected: "a numeric type",
            found: to,
        }),
    }
}

/// `None` as well for a number that is out of range, as opposed to an infinity.
fn float(text: &str) -> Option<f64> {
    let sign = text.starts_with(['+', '-']) as usize;
    let starts = |word: &str| {
        let head = text.as_bytes().get(sign..sign + word.len());
        head.is_some_and(|head| head.eq_ignore_ascii_case(word.as_bytes()))
    };
    if starts("inf") || starts("nan") {
        let value = if starts("inf") {
            f64::INFINITY
        } else {
            f64::NAN
        };
        return Some(if text.starts_with('-') { -value } else { value });
    }
    let whole = sign + digits(&text[sign..]);
    let mut end = whole;
    if text[end..].starts_with('.') {
        end += 1 + digits(&text[end + 1..]);
    }
    if end - sign <= usize::from(end > whole) {
        return None;
    }
    if text[end..].starts_with(['e', 'E']) {
        let digits_at = end + 1 + text[end + 1..].starts_with(['+', '-']) as usize;
        let exponent = digits(&text[digits_at..]);
        end = if exponent > 0 {
            digits_at + exponent
        } else {
            end
        };
    }
    text[..end]
        .parse()
        .ok()
        .filter(|value: &f64| value.is_finite())
}

fn signed(text: &str) -> Option<i64> {
    let sign = text.starts_with(['+', '-']) as usize;
    text[..sign + digits(&text[sign..])].parse().ok()
}

/// Negative numbers wrap around, as in C.
fn unsigned(text: &str) -> Option<u64> {
    let sign = text.starts_with(['+', '-']) as usize;
    let value: u64 = text[sign..][..digits(&text[sign..])].parse().ok()?;
    Some(if text.starts_with('-') {
        value.wrapping_neg()
    } else {
        value
    })
}

/// How many digits `text` begins with.
fn digits(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

/// `%.8g`.
pub(super) fn general(value: f64) -> String {
    if value.is_nan() {
        return "NaN".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "INF" } else { "-INF" }.into();
    }
    let scientific = format!("{value:.7e}");
    let (significand, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..8).contains(&exponent) {
        return without_zeros(&format!("{value:.*}", (7 - exponent) as usize)).into();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{}e{sign}{:02}", without_zeros(significand), exponent.abs())
}

/// Without zeros at the end of the fraction.
fn without_zeros(number: &str) -> &str {
    if number.contains('.') {
        number.trim_end_matches('0').trim_end_matches('.')
    } else {
        number
    }
}
