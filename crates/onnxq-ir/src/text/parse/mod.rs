//! The reader: tokens, lists, headers; models and functions.

mod graph;
mod value;

use bytes::Bytes;

use super::generate::MAX_BYTES;
use super::lex::{Lexer, Token};
use super::{ParseError, TensorStore};
use crate::Attr;
use crate::def::{FunctionDef, Metadata, ModelDef, Opsets, ValueDef};
use value::Value;

type Result<T> = std::result::Result<T, ParseError>;

pub(super) struct Parser<'a> {
    lexer: Lexer<'a>,
    /// The next token, and where it begins.
    token: Token<'a>,
    at: usize,
    tensors: &'a dyn TensorStore,
    /// Bytes that constants which are generated may still take.
    budget: usize,
}

impl<'a> Parser<'a> {
    pub(super) fn new(text: &'a str, tensors: &'a dyn TensorStore) -> Result<Parser<'a>> {
        let mut lexer = Lexer::new(text);
        let (at, token) = lexer.token()?;
        Ok(Parser {
            lexer,
            token,
            at,
            tensors,
            budget: MAX_BYTES,
        })
    }

    pub(super) fn model(mut self) -> Result<ModelDef> {
        let mut model = ModelDef {
            ir_version: 10,
            ..ModelDef::default()
        };
        model.opsets.insert(String::new(), 21);
        if self.eat('<')? {
            self.fields(|p, key| {
                match key {
                    "ir_version" => model.ir_version = p.int()?,
                    "opset_import" => model.opsets = p.opsets()?,
                    "producer_name" => model.producer_name = p.text()?,
                    "producer_version" => model.producer_version = p.text()?,
                    "domain" => model.domain = p.text()?,
                    "model_version" => model.model_version = p.int()?,
                    "doc_string" => model.doc = p.text()?,
                    "metadata_props" => model.metadata = p.pairs()?,
                    "training_info" => model.training = p.blobs()?,
                    "configuration" => model.configurations = p.blobs()?,
                    _ => return Ok(false),
                }
                Ok(true)
            })?;
        }
        model.graph = self.graph()?;
        while self.token != Token::End {
            let function = self.function(&model.opsets)?;
            model.functions.push(function);
        }
        Ok(model)
    }

    fn function(&mut self, opsets: &Opsets) -> Result<FunctionDef> {
        let mut f = FunctionDef {
            opsets: opsets.clone(),
            ..FunctionDef::default()
        };
        if self.eat('<')? {
            self.fields(|p, key| {
                match key {
                    "domain" => f.domain = p.text()?,
                    "overload" => f.overload = p.text()?,
                    "opset_import" => f.opsets = p.opsets()?,
                    "doc_string" => f.doc = p.text()?,
                    "metadata_props" => f.metadata = p.pairs()?,
                    _ => return Ok(false),
                }
                Ok(true)
            })?;
        }
        f.name = self.name()?;
        if self.eat('<')? {
            self.function_attributes(&mut f)?;
        }
        f.inputs = self.function_values(&mut f.value_info)?;
        self.expect_token(&Token::Arrow)?;
        f.outputs = self.function_values(&mut f.value_info)?;
        if self.eat('<')? {
            self.list('>', |p| {
                f.value_info.push(p.value()?);
                Ok(())
            })?;
        }
        f.nodes = self.nodes()?;
        Ok(f)
    }

    fn function_attributes(&mut self, f: &mut FunctionDef) -> Result<()> {
        self.list('>', |p| {
            let at = p.at;
            let name = p.name()?;
            if !matches!(p.token, Token::Punct(':' | '=')) {
                f.attributes.push(name);
                return Ok(());
            }
            let attr = match p.attr_value()? {
                Value::Attr(attr) => attr,
                Value::Graph => Attr::Graph(Box::new(p.graph()?)),
                Value::Graphs => {
                    let mut graphs = Vec::new();
                    p.list(']', |p| {
                        graphs.push(p.graph()?);
                        Ok(())
                    })?;
                    Attr::Graphs(graphs)
                }
            };
            match f.attribute_defaults.insert(name, attr) {
                None => Ok(()),
                Some(_) => Err(p.error(at, "this attribute is given twice")),
            }
        })
    }

    /// Inputs or outputs of a function, whose types, where given, join `value_info`.
    fn function_values(&mut self, value_info: &mut Vec<ValueDef>) -> Result<Vec<String>> {
        let mut names = Vec::new();
        self.expect('(')?;
        self.list(')', |p| {
            let value = p.value()?;
            names.push(value.name.clone());
            if value.ty.is_some() {
                value_info.push(value);
            }
            Ok(())
        })?;
        Ok(names)
    }

    /// `key: value, ... >`. `set` reads the value of a key that it knows.
    fn fields(&mut self, mut set: impl FnMut(&mut Self, &str) -> Result<bool>) -> Result<()> {
        self.list('>', |p| {
            let at = p.at;
            let Token::Ident(key) = p.token else {
                return Err(p.expected("a key"));
            };
            p.bump()?;
            p.expect(':')?;
            match set(p, key)? {
                true => Ok(()),
                false => Err(p.error(at, format!("`{key}` is not known here"))),
            }
        })
    }

    /// `!<key: value, ...>`, if it comes next.
    fn extra(&mut self, set: impl FnMut(&mut Self, &str) -> Result<bool>) -> Result<()> {
        if self.eat('!')? {
            self.expect('<')?;
            self.fields(set)?;
        }
        Ok(())
    }

    fn opsets(&mut self) -> Result<Opsets> {
        let mut opsets = Opsets::new();
        self.expect('[')?;
        self.list(']', |p| {
            let at = p.at;
            let domain = p.text()?;
            p.expect(':')?;
            match opsets.insert(domain, p.int()?) {
                None => Ok(()),
                Some(_) => Err(p.error(at, "this domain is given twice")),
            }
        })?;
        Ok(opsets)
    }

    fn pairs(&mut self) -> Result<Metadata> {
        let mut pairs = Metadata::new();
        self.expect('[')?;
        self.list(']', |p| {
            let at = p.at;
            let key = p.text()?;
            p.expect(':')?;
            match pairs.insert(key, p.text()?) {
                None => Ok(()),
                Some(_) => Err(p.error(at, "this key is given twice")),
            }
        })?;
        Ok(pairs)
    }

    fn blobs(&mut self) -> Result<Vec<Bytes>> {
        let mut blobs = Vec::new();
        self.expect('[')?;
        self.list(']', |p| {
            blobs.push(p.bytes()?);
            Ok(())
        })?;
        Ok(blobs)
    }

    /// Items with commas between them (one may come last) up to `close`.
    fn list(&mut self, close: char, mut item: impl FnMut(&mut Self) -> Result<()>) -> Result<()> {
        while !self.eat(close)? {
            item(self)?;
            if !self.eat(',')? {
                return self.expect(close);
            }
        }
        Ok(())
    }

    /// A name: an identifier or a string.
    fn name(&mut self) -> Result<String> {
        if let Token::Ident(name) = self.token {
            self.bump()?;
            return Ok(name.to_string());
        }
        if let Token::Str(_) = self.token {
            return self.text();
        }
        Err(self.expected("a name"))
    }

    /// A string in UTF-8.
    fn text(&mut self) -> Result<String> {
        let at = self.at;
        String::from_utf8(self.bytes()?.into())
            .map_err(|_| self.error(at, "this string must be valid UTF-8"))
    }

    /// A string.
    fn bytes(&mut self) -> Result<Bytes> {
        let Token::Str(value) = &self.token else {
            return Err(self.expected("a string"));
        };
        let value = Bytes::copy_from_slice(value);
        self.bump()?;
        Ok(value)
    }

    fn int(&mut self) -> Result<i64> {
        let Token::Int(text) = self.token else {
            return Err(self.expected("an integer"));
        };
        let value = text.parse();
        let value = value.map_err(|_| self.error(self.at, "this does not fit in 64 bits"))?;
        self.bump()?;
        Ok(value)
    }

    fn bump(&mut self) -> Result<()> {
        (self.at, self.token) = self.lexer.token()?;
        Ok(())
    }

    fn eat(&mut self, c: char) -> Result<bool> {
        let found = self.token == Token::Punct(c);
        if found {
            self.bump()?;
        }
        Ok(found)
    }

    fn expect(&mut self, c: char) -> Result<()> {
        self.expect_token(&Token::Punct(c))
    }

    fn expect_token(&mut self, token: &Token<'_>) -> Result<()> {
        if self.token == *token {
            self.bump()
        } else {
            Err(self.expected(&token.to_string()))
        }
    }

    fn expected(&self, what: &str) -> ParseError {
        self.error(self.at, format!("expected {what}, found {}", self.token))
    }

    fn error(&self, at: usize, message: impl Into<String>) -> ParseError {
        self.lexer.error(at, message)
    }
}
