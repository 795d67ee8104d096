//! Mutations: of bytes, and of the words and numbers of a text.

use crate::random::Random;

/// Numbers at which something happens.
const NUMBERS: &[i64] = &[
    0,
    1,
    -1,
    2,
    -2,
    3,
    4,
    5,
    7,
    8,
    16,
    64,
    127,
    128,
    255,
    256,
    1000,
    65_536,
    i32::MAX as i64,
    i32::MIN as i64,
    1 << 32,
    1 << 40,
    i64::MAX,
    i64::MIN,
    i64::MAX - 1,
];

const FLOATS: &[&str] = &[
    "0.0", "-0.0", "nan", "inf", "-inf", "1e-45", "3.4e38", "0.5", "-1.5",
];

const WORDS: &[&str] = &[
    "float",
    "double",
    "float16",
    "bfloat16",
    "int64",
    "int32",
    "int8",
    "uint8",
    "int4",
    "uint64",
    "bool",
    "string",
    "float8e4m3fn",
    "seq",
    "optional",
    "N",
    "\"\"",
    "?",
    "\"2*N\"",
    "axis",
    "axes",
    "keepdims",
    "mode",
    "pads",
    "strides",
    "kernel_shape",
    "dilations",
    "group",
    "perm",
    "to",
    "value",
    "body",
    "then_branch",
    "alpha",
    "{",
    "}",
    "[",
    "]",
    "(",
    ")",
    "<",
    ">",
    ",",
    "=",
];

/// How many mutations: mostly few.
fn how_many(random: &mut Random) -> usize {
    let mut n = 1;
    while n < 12 && !random.one_in(3) {
        n += 1;
    }
    n
}

/// A span that is not empty, of at most `longest`, in `len` elements that are not none.
fn span(random: &mut Random, len: usize, longest: usize) -> std::ops::Range<usize> {
    let start = random.below(len);
    let end = (start + 1 + random.below(longest)).min(len);
    start..end
}

/// Bytes changed at a few places.
pub fn bytes(random: &mut Random, from: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = from[random.below(from.len())].clone();
    for _ in 0..how_many(random) {
        if bytes.is_empty() {
            return bytes;
        }
        let at = random.below(bytes.len());
        match random.below(9) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = random.any() as u8,
            2 => bytes[at] = random.pick(&[0, 1, 0x7f, 0x80, 0xff]),
            3 => {
                bytes.drain(span(random, at + 1, 16));
            }
            4 => {
                let piece = bytes[span(random, at + 1, 64)].to_vec();
                bytes.splice(at..at, piece);
            }
            5 => {
                let other = &from[random.below(from.len())];
                let piece = other[span(random, other.len(), 128)].to_vec();
                bytes.splice(at..at, piece);
            }
            // A number of ten bytes, the largest there is.
            6 => {
                let number = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
                bytes.splice(at..=at, number);
            }
            7 => bytes.truncate(at),
            _ => {
                let other = random.below(bytes.len());
                bytes.swap(at, other);
            }
        }
    }
    bytes
}

/// The words, numbers, strings and signs of a text, with white space left out.
pub fn tokens(text: &str) -> Vec<&str> {
    let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '-' | '+');
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let len = if first == '"' {
            let end = rest[1..].find('"').map_or(rest.len(), |end| end + 2);
            end.min(rest.len())
        } else if rest.starts_with("=>") {
            2
        } else if is_word(first) {
            rest.find(|c| !is_word(c)).unwrap_or(rest.len())
        } else {
            first.len_utf8()
        };
        let (token, after) = rest.split_at(len);
        tokens.push(token);
        rest = after.trim_start();
    }
    tokens
}

fn is_number(token: &str) -> bool {
    token.parse::<f64>().is_ok()
}

fn number(random: &mut Random, old: &str) -> String {
    let old: i64 = old.parse().unwrap_or(1);
    match random.below(8) {
        0 => random.pick(FLOATS).to_owned(),
        1 => random.pick(NUMBERS).to_string(),
        2 => old.wrapping_neg().to_string(),
        3 => old.wrapping_add(1).to_string(),
        4 => old.wrapping_sub(1).to_string(),
        _ => random.within(-3, 9).to_string(),
    }
}

/// A text with a few of its tokens changed, sooner numbers and words than signs.
pub fn text(random: &mut Random, from: &[String]) -> String {
    let source = &from[random.below(from.len())];
    let mut tokens: Vec<String> = tokens(source).into_iter().map(str::to_owned).collect();
    for _ in 0..how_many(random) {
        if tokens.is_empty() {
            break;
        }
        let at = random.below(tokens.len());
        match random.below(16) {
            0..5 => {
                let numbers = (0..tokens.len()).filter(|&i| is_number(&tokens[i]));
                let numbers: Vec<usize> = numbers.collect();
                if let Some(&at) = numbers.get(random.below(numbers.len())) {
                    tokens[at] = number(random, &tokens[at]);
                }
            }
            5..10 => {
                // Another word of the text: another operand, operator or attribute.
                let is_word = |t: &String| t.starts_with(|c: char| c.is_alphabetic());
                let words: Vec<usize> =
                    (0..tokens.len()).filter(|&i| is_word(&tokens[i])).collect();
                if !words.is_empty() {
                    let (a, b) = (random.pick(&words), random.pick(&words));
                    tokens[a] = tokens[b].clone();
                }
            }
            10 => tokens[at] = random.pick(WORDS).to_owned(),
            11 => {
                tokens.drain(span(random, at + 1, 4));
            }
            12 => {
                let piece = tokens[span(random, at + 1, 12)].to_vec();
                tokens.splice(at..at, piece);
            }
            13 => {
                let other = self::tokens(&from[random.below(from.len())]);
                if !other.is_empty() {
                    let piece = &other[span(random, other.len(), 24)];
                    tokens.splice(at..at, piece.iter().map(|&t| t.to_owned()));
                }
            }
            14 => {
                let other = random.below(tokens.len());
                tokens.swap(at, other);
            }
            _ => {
                let number = random.pick(NUMBERS).to_string();
                tokens.insert(at, number);
            }
        }
    }
    tokens.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_words_numbers_strings_and_signs() {
        let found = tokens("y = Conv <pads=[1, -1]> (x, \"a b\") =>");
        let expected = [
            "y", "=", "Conv", "<", "pads", "=", "[", "1", ",", "-1", "]", ">", "(", "x", ",",
            "\"a b\"", ")", "=>",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn mutations_repeat() {
        let from = vec!["g (float x) => (float y) { y = Relu (x) }".to_owned()];
        let twice = [7, 7].map(|seed| text(&mut Random::new(seed), &from));
        assert_eq!(twice[0], twice[1]);
        let files = vec![vec![1, 2, 3, 4, 5, 6, 7, 8]];
        let twice = [9, 9].map(|seed| bytes(&mut Random::new(seed), &files));
        assert_eq!(twice[0], twice[1]);
    }
}
