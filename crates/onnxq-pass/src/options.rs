//! [`Options`]: what a pass is built from.
//!
//! A pass declares its options ([`OptionInfo`]) and takes them one by one with
//! [`Options::take`]. The declaration is what help shows and what a misspelt key is compared
//! with; [`PassInfo::check`](crate::PassInfo::check) tests that both say the same.

use indexmap::IndexMap;

use crate::{Error, FromOption, OptionKind, Setting, Step, Value, suggest::nearest};

/// The declaration of an option.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OptionInfo {
    /// The key in pipeline text, in kebab-case.
    pub name: &'static str,
    /// What its values are.
    pub kind: OptionKind,
    /// The default as help shows it.
    pub default: &'static str,
    /// What it does, in one line.
    pub help: &'static str,
}

/// The options given to one pass.
#[derive(Debug)]
pub struct Options {
    pass: &'static str,
    declared: &'static [OptionInfo],
    given: IndexMap<String, Option<Value>>,
    taken: Vec<Taken>,
}

/// An option as the pass asked for it.
#[derive(Debug)]
struct Taken {
    key: &'static str,
    kind: TakenKind,
    default: Option<String>,
}

#[derive(Debug, PartialEq)]
enum TakenKind {
    Kind(OptionKind),
    Choice(Vec<&'static str>),
}

impl Options {
    /// Options for the pass that makes these declarations. A key that is not declared is an
    /// error.
    pub(crate) fn new(
        pass: &'static str,
        declared: &'static [OptionInfo],
        given: IndexMap<String, Option<Value>>,
    ) -> Result<Options, Error> {
        let known = || declared.iter().map(|o| o.name);
        match given.keys().find(|key| known().all(|name| name != *key)) {
            Some(key) => Err(unknown_option(pass, key, known())),
            None => Ok(Options {
                pass,
                declared,
                given,
                taken: Vec::new(),
            }),
        }
    }

    /// The name of the pass.
    pub fn pass(&self) -> &'static str {
        self.pass
    }

    /// The value given for `key`, or `default`.
    pub fn take<T: FromOption>(&mut self, key: &'static str, default: T) -> Result<T, Error> {
        self.note(key, TakenKind::Kind(T::KIND), default.show())?;
        match self.given.get(key) {
            None => Ok(default),
            Some(value) => {
                T::from_option(value.as_ref()).ok_or_else(|| self.invalid(key, T::KIND.expected()))
            }
        }
    }

    /// What the word given for `key` stands for, or `default`.
    pub fn take_choice<T: Clone + PartialEq>(
        &mut self,
        key: &'static str,
        choices: &[(&'static str, T)],
        default: T,
    ) -> Result<T, Error> {
        let names: Vec<&'static str> = choices.iter().map(|&(name, _)| name).collect();
        let shown = choices.iter().find(|(_, value)| *value == default);
        let shown = shown.map(|&(name, _)| name.to_owned());
        self.note(key, TakenKind::Choice(names.clone()), shown)?;
        let Some(value) = self.given.get(key) else {
            return Ok(default);
        };
        let text = match value {
            Some(Value::Text(text)) => text.as_str(),
            _ => "",
        };
        match choices.iter().find(|(name, _)| *name == text) {
            Some((_, value)) => Ok(value.clone()),
            None => Err(value_error(
                self.pass,
                key,
                value.as_ref(),
                one_of(&names),
                nearest(text, names.iter().copied()),
            )),
        }
    }

    /// The error for a value that is of the right type and still cannot be: say what is
    /// expected, as in `a number from 0 to 100`.
    pub fn invalid(&self, key: &str, expected: impl Into<String>) -> Error {
        let value = self.given.get(key).and_then(Option::as_ref);
        value_error(self.pass, key, value, expected.into(), None)
    }

    /// Whether `key` is given rather than left at its default.
    pub fn is_given(&self, key: &str) -> bool {
        self.given.contains_key(key)
    }

    fn note(
        &mut self,
        key: &'static str,
        kind: TakenKind,
        default: Option<String>,
    ) -> Result<(), Error> {
        if self.declared.iter().all(|o| o.name != key) {
            return Err(self.declaration(format!("it takes `{key}` without declaring it")));
        }
        self.taken.push(Taken { key, kind, default });
        Ok(())
    }

    fn declaration(&self, message: String) -> Error {
        Error::Declaration {
            name: self.pass.into(),
            message,
        }
    }

    fn is_taken(&self, key: &str) -> bool {
        self.taken.iter().any(|t| t.key == key)
    }

    /// Checks that the pass took every option it was given.
    pub(crate) fn finish(&self) -> Result<(), Error> {
        match self.given.keys().find(|key| !self.is_taken(key)) {
            Some(key) => Err(self.declaration(format!("it did not take `{key}`"))),
            None => Ok(()),
        }
    }

    /// Checks that the pass took what it declares, with the kinds and defaults it declares.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if let Some(o) = self.declared.iter().find(|o| !self.is_taken(o.name)) {
            return Err(self.declaration(format!("it declares `{}` without taking it", o.name)));
        }
        for taken in &self.taken {
            let of = |o: &&OptionInfo| o.name == taken.key;
            let Some(declared) = self.declared.iter().find(of) else {
                continue; // refused by `note`
            };
            let same_kind = match (&taken.kind, declared.kind) {
                (TakenKind::Choice(names), OptionKind::Choice(declared)) => names == declared,
                (TakenKind::Kind(kind), declared) => *kind == declared,
                _ => false,
            };
            if !same_kind {
                let message = format!("`{}` is declared as {}", taken.key, declared.kind);
                return Err(self.declaration(message));
            }
            if let Some(default) = taken.default.as_ref().filter(|d| *d != declared.default) {
                return Err(self.declaration(format!(
                    "the default of `{}` is {default}, declared as {}",
                    taken.key, declared.default
                )));
            }
        }
        Ok(())
    }
}

impl Step {
    /// A step without options.
    pub fn new(name: impl Into<String>) -> Step {
        Step {
            name: name.into(),
            settings: Vec::new(),
        }
    }

    /// The settings by key; a key given twice is an error.
    pub(crate) fn settings_by_key(&self) -> Result<IndexMap<String, Option<Value>>, Error> {
        let mut map = IndexMap::new();
        for Setting { key, value } in &self.settings {
            if map.insert(key.clone(), value.clone()).is_some() {
                return Err(Error::DuplicateOption {
                    owner: self.name.clone(),
                    key: key.clone(),
                });
            }
        }
        Ok(map)
    }
}

/// The error for a key that nobody declares.
pub(crate) fn unknown_option<'a>(
    owner: &str,
    key: &str,
    known: impl Iterator<Item = &'a str> + Clone,
) -> Error {
    Error::UnknownOption {
        owner: owner.into(),
        key: key.into(),
        nearest: nearest(key, known.clone()).map(str::to_owned),
        known: known.map(str::to_owned).collect(),
    }
}

fn value_error(
    pass: &str,
    key: &str,
    value: Option<&Value>,
    expected: String,
    nearest: Option<&str>,
) -> Error {
    Error::Value {
        pass: pass.into(),
        key: key.into(),
        found: value.map_or_else(|| "no value".into(), |v| format!("`{v}`")),
        expected,
        nearest: nearest.map(str::to_owned),
    }
}

/// `` `a`, `b`, `c` ``
pub(crate) fn quote_list(names: &[impl AsRef<str>]) -> String {
    let quoted: Vec<_> = names.iter().map(|n| format!("`{}`", n.as_ref())).collect();
    quoted.join(", ")
}

fn one_of(names: &[&str]) -> String {
    match names {
        [name] => format!("`{name}`"),
        _ => format!("one of {}", quote_list(names)),
    }
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use super::*;
    use crate::Pipeline;

    const fn option(name: &'static str, kind: OptionKind, default: &'static str) -> OptionInfo {
        OptionInfo {
            name,
            kind,
            default,
            help: "",
        }
    }

    static DECLARED: &[OptionInfo] = &[
        option("per-channel", OptionKind::Bool, "false"),
        option("percentile", OptionKind::Float, "99.999"),
        option("bins", OptionKind::UInt, "128"),
        option("axis", OptionKind::Int, "-1"),
        option("nodes", OptionKind::List, "all"),
        option("axes", OptionKind::Table, "none"),
        option("file", OptionKind::Text, "none"),
        option("type", OptionKind::Choice(&["int8", "uint8"]), "int8"),
    ];

    fn options(text: &str) -> Result<Options, Error> {
        let pipeline = Pipeline::parse(&format!("toy{{{text}}}"))?;
        Options::new("toy", DECLARED, pipeline.steps[0].settings_by_key()?)
    }

    fn message(error: &Error) -> String {
        format!("{error} / {}", error.help().unwrap_or_default())
    }

    fn taken<T: FromOption + fmt::Debug>(text: &str, key: &'static str, default: T) -> String {
        match options(text).unwrap().take(key, default) {
            Ok(value) => format!("{value:?}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn takes_every_type() {
        assert_eq!(taken("", "per-channel", false), "false");
        assert_eq!(taken("per-channel", "per-channel", false), "true");
        assert_eq!(taken("per-channel=false", "per-channel", true), "false");
        assert_eq!(taken("percentile=99.9", "percentile", 1.0), "99.9");
        assert_eq!(taken("bins=7", "bins", 1usize), "7");
        assert_eq!(taken("axis=-2", "axis", 0i64), "-2");
        assert_eq!(
            taken("file=\"a b\"", "file", None::<String>),
            "Some(\"a b\")"
        );
        assert_eq!(taken("", "file", None::<String>), "None");
        let list = |text| taken(text, "nodes", Vec::<String>::new());
        assert_eq!(list("nodes=[a,b:0]"), "[\"a\", \"b:0\"]");
        assert_eq!(list("nodes=a"), "[\"a\"]");
        assert_eq!(list("nodes=[]"), "[]");
        let table = |text| taken(text, "axes", Vec::<(String, i64)>::new());
        assert_eq!(
            table("axes=[MatMul:1,a:b:0,\"c d\":2]"),
            "[(\"MatMul\", 1), (\"a:b\", 0), (\"c d\", 2)]"
        );
    }

    #[test]
    fn wrong_types_name_pass_key_and_value() {
        assert_eq!(
            taken("per-channel=yes", "per-channel", false),
            "option `per-channel` of `toy`: expected `true` or `false`, found `yes`"
        );
        assert_eq!(
            taken("bins=-1", "bins", 1usize),
            "option `bins` of `toy`: expected an integer of at least 0, found `-1`"
        );
        assert_eq!(
            taken("axis", "axis", 0i64),
            "option `axis` of `toy`: expected an integer, found no value"
        );
        for text in ["nan", "inf", "x", "[1]"] {
            let found = taken(&format!("percentile={text}"), "percentile", 1.0);
            assert!(
                found.ends_with(&format!("a number, found `{text}`")),
                "{found}"
            );
        }
        for text in ["MatMul:1", "[MatMul]", "[MatMul:x]", "[[a]:1]"] {
            let Ok(mut opts) = options(&format!("axes={text}")) else {
                continue;
            };
            assert!(
                opts.take("axes", Vec::<(String, i64)>::new()).is_err(),
                "{text}"
            );
        }
        assert!(taken("nodes=[[a]]", "nodes", Vec::<String>::new()).contains("`[[a]]`"));
    }

    #[test]
    fn choices_are_words() {
        let choices = [("int8", 1), ("uint8", 2)];
        let take = |text: &str| options(text)?.take_choice("type", &choices, 1);
        assert_eq!(take("").unwrap(), 1);
        assert_eq!(take("type=uint8").unwrap(), 2);
        assert_eq!(
            message(&take("type=unit8").unwrap_err()),
            "option `type` of `toy`: expected one of `int8`, `uint8`, found `unit8` \
             / did you mean `uint8`?"
        );
        assert!(
            take("type")
                .unwrap_err()
                .to_string()
                .ends_with("found no value")
        );
        assert!(take("type=[int8]").is_err());
    }

    #[test]
    fn unknown_keys_suggest_the_nearest() {
        assert_eq!(
            message(&options("per_chanel").unwrap_err()),
            "`toy` has no option `per_chanel` / did you mean `per-channel`?"
        );
        assert!(message(&options("zz=1").unwrap_err()).contains("its options are `per-channel`,"));
        assert_eq!(
            options("bins=1 bins=2").unwrap_err().to_string(),
            "option `bins` of `toy` is given twice"
        );
    }

    #[test]
    fn a_builder_can_refuse_a_value() {
        let opts = options("percentile=101").unwrap();
        assert_eq!(
            opts.invalid("percentile", "a number from 0 to 100")
                .to_string(),
            "option `percentile` of `toy`: expected a number from 0 to 100, found `101`"
        );
        assert!(opts.is_given("percentile") && !opts.is_given("bins"));
    }

    #[test]
    fn declarations_are_checked() {
        let mut opts = options("").unwrap();
        let error = opts.take("undeclared", false).unwrap_err().to_string();
        assert_eq!(
            error,
            "declaration of `toy`: it takes `undeclared` without declaring it"
        );
        assert!(
            opts.check()
                .unwrap_err()
                .to_string()
                .contains("`per-channel`")
        );
        let given = options("bins=1").unwrap().finish().unwrap_err();
        assert!(given.to_string().ends_with("it did not take `bins`"));

        static ONE: &[OptionInfo] = &[option("x", OptionKind::UInt, "1")];
        let check = |take: fn(&mut Options)| {
            let mut opts = Options::new("toy", ONE, IndexMap::new()).unwrap();
            take(&mut opts);
            opts.check().map_err(|e| e.to_string())
        };
        assert_eq!(check(|o| drop(o.take("x", 1usize))), Ok(()));
        assert_eq!(check(|o| drop(o.take("x", None::<usize>))), Ok(()));
        assert_eq!(
            check(|o| drop(o.take("x", 2usize))).unwrap_err(),
            "declaration of `toy`: the default of `x` is 2, declared as 1"
        );
        assert_eq!(
            check(|o| drop(o.take("x", false))).unwrap_err(),
            "declaration of `toy`: `x` is declared as uint"
        );
    }
}
