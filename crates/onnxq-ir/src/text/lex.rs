//! Tokens of the text form.

use std::{borrow::Cow, fmt};

use super::ParseError;

/// A token. Punctuation is one character each, but for `=>`.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Token<'a> {
    Ident(&'a str),
    Int(&'a str),
    /// A literal with a point or an exponent, or one of `-nan`, `-inf`, `-infinity`.
    Float(&'a str),
    /// `nan(0x7fc00001)`: a NaN by its bits.
    NanBits(u64),
    Str(Cow<'a, [u8]>),
    Punct(char),
    Arrow,
    End,
}

impl fmt::Display for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Token::Ident(s) | Token::Int(s) | Token::Float(s) => write!(f, "`{s}`"),
            Token::NanBits(bits) => write!(f, "`nan(0x{bits:x})`"),
            Token::Str(_) => f.write_str("a string"),
            Token::Punct(c) => write!(f, "`{c}`"),
            Token::Arrow => f.write_str("`=>`"),
            Token::End => f.write_str("the end of the text"),
        }
    }
}

/// Whether `text` can be written without quotes.
pub(super) fn is_identifier(text: &str) -> bool {
    text.bytes().next().is_some_and(is_ident_start) && text.bytes().all(is_ident)
}

/// Whether `text` spells a float in letters. These words are never read as names of graphs.
pub(super) fn is_float_word(text: &str) -> bool {
    ["nan", "inf", "infinity"]
        .iter()
        .any(|w| text.eq_ignore_ascii_case(w))
}

fn is_ident_start(b: u8) -> bool {
    b.is_ascii_alphabetic() || b == b'_'
}

fn is_ident(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_'
}

/// Cuts a text into tokens.
#[derive(Clone)]
pub(super) struct Lexer<'a> {
    text: &'a str,
    next: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Lexer<'a> {
        Lexer { text, next: 0 }
    }

    /// The next token and where it begins.
    pub(super) fn token(&mut self) -> Result<(usize, Token<'a>), ParseError> {
        self.skip_space();
        let at = self.next;
        let token = match self.peek() {
            None => Token::End,
            Some(b'"') => {
                self.next += 1;
                Token::Str(self.string(at)?)
            }
            Some(b'b') if self.peek_at(1) == Some(b'"') => {
                self.next += 2;
                Token::Str(Cow::Owned(self.byte_string(at)?))
            }
            Some(b'=') if self.peek_at(1) == Some(b'>') => {
                self.next += 2;
                Token::Arrow
            }
            Some(b) if is_ident_start(b) => self.word(at)?,
            Some(b) if b.is_ascii_digit() => self.number(at),
            Some(b'-') => {
                self.next += 1;
                self.negative(at)?
            }
            Some(b) if b.is_ascii_punctuation() => {
                self.next += 1;
                Token::Punct(char::from(b))
            }
            Some(_) => {
                let found = self.text[at..].chars().next().unwrap_or_default();
                return Err(self.error(at, format!("unexpected character {found:?}")));
            }
        };
        Ok((at, token))
    }

    /// An error at the byte `at`.
    pub(super) fn error(&self, at: usize, message: impl Into<String>) -> ParseError {
        let before = &self.text[..at];
        let line_start = before.rfind('\n').map_or(0, |i| i + 1);
        ParseError {
            line: before.bytes().filter(|&b| b == b'\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            message: message.into(),
        }
    }

    fn peek(&self) -> Option<u8> {
        self.peek_at(0)
    }

    fn peek_at(&self, ahead: usize) -> Option<u8> {
        self.text.as_bytes().get(self.next + ahead).copied()
    }

    fn skip_while(&mut self, keep: impl Fn(u8) -> bool) {
        while self.peek().is_some_and(&keep) {
            self.next += 1;
        }
    }

    fn skip_space(&mut self) {
        loop {
            // The C locale's white space, as in the C++ parser.
            self.skip_while(|b| b.is_ascii_whitespace() || b == 0x0b);
            let comment =
                self.peek() == Some(b'#') || self.text.as_bytes()[self.next..].starts_with(b"//");
            if !comment {
                return;
            }
            self.skip_while(|b| b != b'\n');
        }
    }

    fn word(&mut self, at: usize) -> Result<Token<'a>, ParseError> {
        self.skip_while(is_ident);
        let word = &self.text[at..self.next];
        if word == "nan" && self.text[self.next..].starts_with("(0x") {
            let digits = self.next + 3;
            self.next = digits;
            self.skip_while(|b| b.is_ascii_hexdigit());
            let bits = u64::from_str_radix(&self.text[digits..self.next], 16);
            if let (Ok(bits), Some(b')')) = (bits, self.peek()) {
                self.next += 1;
                return Ok(Token::NanBits(bits));
            }
            return Err(self.error(at, "expected a NaN such as nan(0x7fc00000)"));
        }
        Ok(Token::Ident(word))
    }

    fn negative(&mut self, at: usize) -> Result<Token<'a>, ParseError> {
        if self.peek().is_some_and(|b| b.is_ascii_digit()) {
            return Ok(self.number(at));
        }
        self.skip_while(is_ident);
        if is_float_word(&self.text[at + 1..self.next]) {
            return Ok(Token::Float(&self.text[at..self.next]));
        }
        Err(self.error(at, "expected a number after `-`"))
    }

    fn number(&mut self, at: usize) -> Token<'a> {
        let mut float = false;
        self.skip_while(|b| b.is_ascii_digit());
        if self.peek() == Some(b'.') {
            float = true;
            self.next += 1;
            self.skip_while(|b| b.is_ascii_digit());
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(self.peek_at(1), Some(b'+' | b'-')));
            if self.peek_at(1 + sign).is_some_and(|b| b.is_ascii_digit()) {
                float = true;
                self.next += 1 + sign;
                self.skip_while(|b| b.is_ascii_digit());
            }
        }
        let text = &self.text[at..self.next];
        if float {
            Token::Float(text)
        } else {
            Token::Int(text)
        }
    }

    /// The rest of `"..."`: a backslash stands for nothing, and takes the next character as it is.
    fn string(&mut self, at: usize) -> Result<Cow<'a, [u8]>, ParseError> {
        let from = self.next;
        self.skip_while(|b| b != b'"' && b != b'\\');
        let mut value = Cow::Borrowed(&self.text.as_bytes()[from..self.next]);
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.next += 1;
                    return Ok(value);
                }
                Some(b'\\') if self.peek_at(1).is_some() => {
                    let from = self.next + 1;
                    self.next += 2;
                    self.skip_while(|b| b != b'"' && b != b'\\');
                    value
                        .to_mut()
                        .extend_from_slice(&self.text.as_bytes()[from..self.next]);
                }
                _ => return Err(self.error(at, "this string does not end")),
            }
        }
    }

    /// The rest of `b"..."`, with escapes as in Rust.
    fn byte_string(&mut self, at: usize) -> Result<Vec<u8>, ParseError> {
        let mut value = Vec::new();
        loop {
            let from = self.next;
            self.skip_while(|b| b != b'"' && b != b'\\');
            value.extend_from_slice(&self.text.as_bytes()[from..self.next]);
            match self.peek() {
                Some(b'"') => {
                    self.next += 1;
                    return Ok(value);
                }
                Some(_) => value.push(self.escape()?),
                None => return Err(self.error(at, "this string does not end")),
            }
        }
    }

    fn escape(&mut self) -> Result<u8, ParseError> {
        let at = self.next;
        self.next += 2;
        Ok(match self.text.as_bytes().get(at + 1) {
            Some(b'n') => b'\n',
            Some(b't') => b'\t',
            Some(b'r') => b'\r',
            Some(&b @ (b'"' | b'\\')) => b,
            Some(b'x') => {
                let digit = |i| char::from(*self.text.as_bytes().get(at + i)?).to_digit(16);
                let (Some(high), Some(low)) = (digit(2), digit(3)) else {
                    return Err(self.error(at, "expected two hexadecimal digits after \\x"));
                };
                self.next += 2;
                (high << 4 | low) as u8
            }
            _ => {
                return Err(self.error(at, "unknown escape; there are \\n \\t \\r \\\" \\\\ \\xHH"));
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Vec<Token<'_>> {
        let mut lexer = Lexer::new(text);
        let mut all = Vec::new();
        loop {
            match lexer.token().unwrap().1 {
                Token::End => return all,
                token => all.push(token),
            }
        }
    }

    #[test]
    fn numbers_and_words() {
        assert_eq!(
            tokens("a_1 -3 2.5e-3 1. -inf nan nan(0x7fc00001) => = # x\n // y\n>"),
            [
                Token::Ident("a_1"),
                Token::Int("-3"),
                Token::Float("2.5e-3"),
                Token::Float("1."),
                Token::Float("-inf"),
                Token::Ident("nan"),
                Token::NanBits(0x7fc0_0001),
                Token::Arrow,
                Token::Punct('='),
                Token::Punct('>'),
            ]
        );
    }

    #[test]
    fn strings() {
        let bytes = |b: &[u8]| Token::Str(Cow::Owned(b.to_vec()));
        assert_eq!(tokens(r#""a\"\n\\é""#), [bytes("a\"n\\é".as_bytes())]);
        assert_eq!(tokens(r#"b"\n\xff\"é""#), [bytes(b"\n\xff\"\xc3\xa9")]);
        for bad in [
            r#""a"#,
            r#""a\"#,
            r#"b"a"#,
            r#"b"\"#,
            r#"b"\x1"#,
            r#"b"\q""#,
            "b\"\\\u{e9}\"",
        ] {
            assert!(Lexer::new(bad).token().is_err(), "{bad}");
        }
    }

    #[test]
    fn errors_count_characters() {
        let mut lexer = Lexer::new("\n \"é\" é");
        lexer.token().unwrap();
        let error = lexer.token().unwrap_err();
        assert_eq!((error.line, error.column), (2, 6));
    }
}
