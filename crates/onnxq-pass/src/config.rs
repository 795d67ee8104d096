//! [`Config`]: options from a TOML file.
//!
//! ```toml
//! passes = "preprocess,quantize,fuse"
//!
//! [quantize]
//! per-channel = true
//! exclude-nodes = ["a", "b"]
//! per-channel-axis = { MatMul = 1 }
//! ```
//!
//! Keys and values are those of pipeline text, which wins where both give an option.

use indexmap::IndexMap;

use crate::{Error, Item, Pipeline, Registry, Value, options::unknown_option, suggest::nearest};

/// The key of the pipeline text.
const PASSES: &str = "passes";

/// What a config file says.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Config {
    /// The pipeline, if the file has one.
    pub passes: Option<Pipeline>,
    /// Options by the name of a pass or pipeline.
    pub(crate) tables: IndexMap<String, IndexMap<String, Option<Value>>>,
}

impl Config {
    /// Reads a config file. Every table must be named like a pass or pipeline of `registry`, and
    /// every key in it like one of its options.
    pub fn parse(text: &str, registry: &Registry) -> Result<Config, Error> {
        let file: toml::Table = text.parse().map_err(|e| syntax(text, &e))?;
        let mut config = Config::default();
        for (key, value) in file {
            match value {
                toml::Value::String(text) if key == PASSES => {
                    config.passes = Some(Pipeline::parse(&text)?);
                }
                toml::Value::Table(table) if registry.names().any(|name| name == key) => {
                    let options = registry.options(&key)?;
                    let known = || options.iter().map(|o| o.name);
                    let mut settings = IndexMap::new();
                    for (option, value) in table {
                        if known().all(|name| name != option) {
                            return Err(unknown_option(&key, &option, known()));
                        }
                        settings.insert(option, Some(convert(value)));
                    }
                    config.tables.insert(key, settings);
                }
                _ => return Err(wrong_key(&key, &value, registry)),
            }
        }
        Ok(config)
    }
}

fn syntax(text: &str, error: &toml::de::Error) -> Error {
    let before = error.span().and_then(|span| text.get(..span.start));
    let line = before.unwrap_or_default().matches('\n').count() + 1;
    let message = error.message().replace('\n', " ");
    Error::Config(format!("line {line}: {message}"))
}

fn wrong_key(key: &str, value: &toml::Value, registry: &Registry) -> Error {
    if key == PASSES {
        return Error::Config("`passes` must be pipeline text in quotes".into());
    }
    if registry.names().any(|name| name == key) {
        return Error::Config(format!("`{key}` must be a table of options"));
    }
    let nearest = match value {
        toml::Value::Table(_) => nearest(key, registry.names()),
        _ => nearest(key, [PASSES]),
    };
    Error::ConfigKey {
        key: key.into(),
        nearest: nearest.map(str::to_owned),
    }
}

fn convert(value: toml::Value) -> Value {
    let item = |value| Item {
        key: None,
        value: convert(value),
    };
    let entry = |(key, value)| Item {
        key: Some(key),
        value: convert(value),
    };
    match value {
        toml::Value::String(text) => Value::Text(text),
        toml::Value::Integer(v) => Value::Text(v.to_string()),
        toml::Value::Float(v) => Value::Text(v.to_string()),
        toml::Value::Boolean(v) => Value::Text(v.to_string()),
        toml::Value::Datetime(v) => Value::Text(v.to_string()),
        toml::Value::Array(values) => Value::List(values.into_iter().map(item).collect()),
        toml::Value::Table(table) => Value::List(table.into_iter().map(entry).collect()),
    }
}
