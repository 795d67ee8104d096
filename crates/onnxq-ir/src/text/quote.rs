//! Strings and names as text: the inverse of the lexer.

use std::fmt::{self, Write};

use super::lex::{is_float_word, is_identifier};
use onnxq_tensor::DType;

/// Whether strings may go over several lines.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Lines {
    /// As the standard syntax has it: an end of line is written as it is.
    Many,
    /// With escapes.
    One,
}

/// Whether a word begins a type.
pub(super) fn is_type_word(word: &str) -> bool {
    matches!(
        word,
        "seq" | "map" | "optional" | "sparse_tensor" | "opaque"
    ) || DType::from_name(word).is_some()
}

/// Writes a string: `"..."`, as in the standard syntax, for text, else `b"..."`.
pub(super) fn string(out: &mut impl Write, value: &[u8], lines: Lines) -> fmt::Result {
    let plain = |c: char| !c.is_control() || (lines == Lines::Many && matches!(c, '\n' | '\t'));
    match std::str::from_utf8(value) {
        Ok(text) if text.chars().all(plain) => {
            out.write_char('"')?;
            for piece in text.split_inclusive(['"', '\\']) {
                // Every piece but perhaps the last ends in the character to escape.
                match piece.strip_suffix(['"', '\\']) {
                    Some(before) => {
                        write!(out, "{before}\\{}", &piece[before.len()..])?;
                    }
                    None => out.write_str(piece)?,
                }
            }
            out.write_char('"')
        }
        _ => byte_string(out, value),
    }
}

fn byte_string(out: &mut impl Write, value: &[u8]) -> fmt::Result {
    out.write_str("b\"")?;
    let hex = |out: &mut _, bytes: &[u8]| {
        bytes
            .iter()
            .try_for_each(|b| Write::write_fmt(out, format_args!("\\x{b:02x}")))
    };
    for chunk in value.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\n' => out.write_str("\\n")?,
                '\t' => out.write_str("\\t")?,
                '\r' => out.write_str("\\r")?,
                '"' | '\\' => write!(out, "\\{c}")?,
                c if c.is_control() => hex(out, c.encode_utf8(&mut [0; 4]).as_bytes())?,
                c => out.write_char(c)?,
            }
        }
        hex(out, chunk.invalid())?;
    }
    out.write_char('"')
}

/// Writes a name, in quotes unless it is an identifier that means nothing else.
pub(super) fn name(out: &mut impl Write, name: &str) -> fmt::Result {
    if is_type_word(name) || is_float_word(name) {
        string(out, name.as_bytes(), Lines::Many)
    } else {
        plain_name(out, name)
    }
}

/// Writes a name where no word has another meaning: in quotes unless it is an identifier.
pub(super) fn plain_name(out: &mut impl Write, name: &str) -> fmt::Result {
    if is_identifier(name) {
        out.write_str(name)
    } else {
        string(out, name.as_bytes(), Lines::Many)
    }
}

/// Writes names with dots between them, `a.b.c`, in quotes where that would not read back.
pub(super) fn qualified(out: &mut impl Write, name: &str) -> fmt::Result {
    if name.split('.').all(is_identifier) {
        out.write_str(name)
    } else {
        string(out, name.as_bytes(), Lines::Many)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::lex::{Lexer, Token};

    fn quoted(value: &[u8], lines: Lines) -> String {
        let mut out = String::new();
        string(&mut out, value, lines).unwrap();
        let token = Lexer::new(&out).token().unwrap().1;
        assert_eq!(token, Token::Str(value.into()), "{out}");
        out
    }

    #[test]
    fn strings_read_back() {
        assert_eq!(quoted(b"a\"\\b\"", Lines::Many), r#""a\"\\b\"""#);
        assert_eq!(quoted("é".as_bytes(), Lines::Many), "\"é\"");
        assert_eq!(quoted(b"a\nb", Lines::Many), "\"a\nb\"");
        assert_eq!(
            quoted(b"a\n\"\\\xff\x00\xc3\xa9", Lines::One),
            r#"b"a\n\"\\\xff\x00é""#
        );
        assert_eq!(quoted("\u{85}".as_bytes(), Lines::Many), r#"b"\xc2\x85""#);
        assert_eq!(quoted(b"", Lines::Many), r#""""#);
    }

    #[test]
    fn names() {
        let text = |n| {
            let mut out = String::new();
            name(&mut out, n).unwrap();
            out
        };
        assert_eq!(text("x_1"), "x_1");
        assert_eq!(text("/a/b"), "\"/a/b\"");
        assert_eq!(text("float"), "\"float\"");
        assert_eq!(text("Inf"), "\"Inf\"");
        assert_eq!(text(""), "\"\"");
        assert_eq!(text("1x"), "\"1x\"");
    }
}
