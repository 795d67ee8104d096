//! [`Pipeline`]: the text that says which passes run, with which options.
//!
//! ```text
//! pipeline = [ step { "," step } ]
//! step     = name [ "{" { setting } "}" ]
//! setting  = name [ "=" value ]
//! value    = word | string | "[" [ item { "," item } ] "]"
//! item     = value | ( word | string ) ":" value
//! ```
//!
//! Settings are separated by white space. A word is any run of characters other than white
//! space, comma, brackets and braces that does not begin with a quote (a name, which may be
//! quoted too, has no `=`). A string is a JSON string. `MatMul:1` in a list is one word: whether
//! it is a name with a colon in it or an entry of a table is for the option to say.
//!
//! `parse(print(p)) == p` for every `Pipeline`.

use std::fmt;

use crate::Error;

/// Lists in lists beyond this are an error rather than a deep recursion.
const MAX_NESTING: usize = 64;

/// A list of passes and pipelines with their options.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Pipeline {
    /// What runs, in order.
    pub steps: Vec<Step>,
}

/// A pass, or the name of a pipeline, with options.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Step {
    /// The name of the pass or pipeline.
    pub name: String,
    /// Its options, in the order written.
    pub settings: Vec<Setting>,
}

/// `key=value`, or `flag`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Setting {
    /// The name of the option.
    pub key: String,
    /// The value; `None` for a flag.
    pub value: Option<Value>,
}

/// The value of an option. Text has no type of its own: the option gives it one.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Value {
    /// A word or string.
    Text(String),
    /// What is between brackets.
    List(Vec<Item>),
}

/// An element of a list.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Item {
    /// The key of an entry of a table that is written apart from its value (`"MatMul":1`).
    pub key: Option<String>,
    /// The element, or the value of the entry.
    pub value: Value,
}

impl Pipeline {
    /// Reads pipeline text. Blank text is the pipeline of no passes.
    pub fn parse(text: &str) -> Result<Pipeline, Error> {
        let mut parser = Parser { text, at: 0 };
        let mut steps = Vec::new();
        parser.skip_space();
        while !parser.done() {
            steps.push(parser.step()?);
            parser.skip_space();
            if parser.done() {
                break;
            }
            parser.expect(',', "`,` between passes")?;
            parser.skip_space();
            if parser.done() {
                return Err(parser.expected("a pass after `,`"));
            }
        }
        Ok(Pipeline { steps })
    }
}

impl std::str::FromStr for Pipeline {
    type Err = Error;

    fn from_str(text: &str) -> Result<Pipeline, Error> {
        Pipeline::parse(text)
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn done(&self) -> bool {
        self.at == self.text.len()
    }

    fn skip_space(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    fn eat(&mut self, c: char) -> bool {
        let found = self.peek() == Some(c);
        if found {
            self.at += c.len_utf8();
        }
        found
    }

    fn expect(&mut self, c: char, what: &str) -> Result<(), Error> {
        if self.eat(c) {
            Ok(())
        } else {
            Err(self.expected(what))
        }
    }

    fn expected(&self, what: &str) -> Error {
        let found = match self.peek() {
            Some(c) => format!("`{}`", c.escape_debug()),
            None => "the end".into(),
        };
        self.error(format!("expected {what}, found {found}"))
    }

    fn error(&self, message: String) -> Error {
        let before = &self.text[..self.at];
        let near: String = {
            let skip = before.chars().count().saturating_sub(24);
            before.chars().skip(skip).collect()
        };
        Error::Syntax {
            message,
            position: before.chars().count() + 1,
            near: match near.trim() {
                "" => String::new(),
                near => format!(", after `{}`", near.escape_debug()),
            },
        }
    }

    fn step(&mut self) -> Result<Step, Error> {
        let name = self.name("the name of a pass")?;
        let mut settings: Vec<Setting> = Vec::new();
        if self.eat('{') {
            self.skip_space();
            while !self.eat('}') {
                settings.push(self.setting()?);
                // What ends a word ends a setting; a string or list may be run into the next.
                match self.peek() {
                    Some('}') => {}
                    Some(c) if c.is_whitespace() => self.skip_space(),
                    Some(',') => return Err(self.expected("a space between options, or `}`")),
                    _ => return Err(self.expected("a space or `}` after an option")),
                }
            }
        }
        Ok(Step { name, settings })
    }

    fn setting(&mut self) -> Result<Setting, Error> {
        let key = self.name("the name of an option, or `}`")?;
        let value = if self.eat('=') {
            Some(self.value(0)?)
        } else {
            None
        };
        Ok(Setting { key, value })
    }

    fn name(&mut self, what: &str) -> Result<String, Error> {
        if self.peek() == Some('"') {
            return self.string();
        }
        self.word(|c| ends_word(c) || c == '=')
            .map(str::to_owned)
            .ok_or_else(|| self.expected(what))
    }

    fn value(&mut self, depth: usize) -> Result<Value, Error> {
        match self.peek() {
            Some('[') => self.list(depth).map(Value::List),
            Some('"') => self.string().map(Value::Text),
            _ => match self.word(ends_word) {
                Some(word) => Ok(Value::Text(word.to_owned())),
                None => Err(self.expected("a value (an empty one is `\"\"`)")),
            },
        }
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Item>, Error> {
        if depth == MAX_NESTING {
            return Err(self.error(format!("lists are nested more than {MAX_NESTING} deep")));
        }
        self.expect('[', "`[`")?;
        self.skip_space();
        let mut items = Vec::new();
        if self.eat(']') {
            return Ok(items);
        }
        loop {
            self.skip_space();
            items.push(self.item(depth)?);
            self.skip_space();
            if self.eat(']') {
                return Ok(items);
            }
            self.expect(',', "`,` or `]` in a list")?;
        }
    }

    fn item(&mut self, depth: usize) -> Result<Item, Error> {
        let quoted = self.peek() == Some('"');
        let value = self.value(depth + 1)?;
        let key = match &value {
            Value::Text(text) if quoted => self.eat(':').then(|| text.clone()),
            // `a:` directly before something that is no part of the word: `a:[1]`, `a: 1`.
            Value::Text(text) => text.strip_suffix(':').map(str::to_owned),
            Value::List(_) => None,
        };
        let Some(key) = key else {
            return Ok(Item { key: None, value });
        };
        self.skip_space();
        match self.peek() {
            None | Some(',' | ']') if !quoted => Ok(Item { key: None, value }),
            _ => Ok(Item {
                key: Some(key),
                value: self.value(depth + 1)?,
            }),
        }
    }

    fn word(&mut self, ends: impl Fn(char) -> bool) -> Option<&'a str> {
        let word = &self.rest()[..self.rest().find(ends).unwrap_or(self.rest().len())];
        self.at += word.len();
        (!word.is_empty()).then_some(word)
    }

    fn string(&mut self) -> Result<String, Error> {
        let mut escaped = true; // the opening quote ends nothing
        let end = self.rest().char_indices().find_map(|(i, c)| {
            let closes = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            closes.then_some(i + 1)
        });
        let Some(end) = end else {
            return Err(self.error("a string without its closing quote".into()));
        };
        let literal = &self.rest()[..end];
        let string = serde_json::from_str(literal)
            .map_err(|_| self.error(format!("{literal} is not a JSON string")))?;
        self.at += end;
        match self.peek() {
            Some(c) if !ends_word(c) && c != ':' && c != '=' => {
                Err(self.expected("a space or punctuation after a string"))
            }
            _ => Ok(string),
        }
    }
}

fn ends_word(c: char) -> bool {
    c.is_whitespace() || matches!(c, ',' | '[' | ']' | '{' | '}')
}

/// Separates what `print` writes by `separator`.
fn separated<T>(
    f: &mut fmt::Formatter<'_>,
    separator: &str,
    items: &[T],
    print: impl Fn(&T, &mut fmt::Formatter<'_>) -> fmt::Result,
) -> fmt::Result {
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            f.write_str(separator)?;
        }
        print(item, f)?;
    }
    Ok(())
}

fn print_text(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let plain = |c: char| !ends_word(c) && !c.is_control();
    if !text.is_empty() && !text.starts_with('"') && text.chars().all(plain) {
        f.write_str(text)
    } else {
        print_string(text, f)
    }
}

fn print_name(name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if name.contains('=') {
        print_string(name, f)
    } else {
        print_text(name, f)
    }
}

fn print_string(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "{}", serde_json::Value::from(text))
}

impl fmt::Display for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        separated(f, ",", &self.steps, fmt::Display::fmt)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print_name(&self.name, f)?;
        if !self.settings.is_empty() {
            f.write_str("{")?;
            separated(f, " ", &self.settings, fmt::Display::fmt)?;
            f.write_str("}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print_name(&self.key, f)?;
        match &self.value {
            Some(value) => write!(f, "={value}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Text(text) => print_text(text, f),
            Value::List(items) => {
                f.write_str("[")?;
                separated(f, ",", items, fmt::Display::fmt)?;
                f.write_str("]")
            }
        }
    }
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(key) = &self.key {
            // Always quoted: a bare `a:1` is one word.
            print_string(key, f)?;
            f.write_str(":")?;
        }
        self.value.fmt(f)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::Text(text.to_owned())
    }
}
