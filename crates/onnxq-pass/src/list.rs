//! What `onnxq-opt passes` prints: every pass and pipeline with its options.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::{Error, OptionInfo, OptionKind, Registry};

impl Registry {
    /// The passes and pipelines as text for people.
    pub fn to_text(&self) -> Result<String, Error> {
        let mut out = String::from("pipelines:\n");
        for p in self.pipelines() {
            let _ = writeln!(out, "\n  {}: {}", p.name, p.summary);
            let _ = writeln!(out, "    = {}", p.text);
            write_options(&mut out, &self.options(p.name)?);
        }
        out.push_str("\npasses:\n");
        for p in self.passes() {
            let _ = writeln!(out, "\n  {}: {}", p.name, p.summary);
            write_options(&mut out, p.options);
        }
        Ok(out)
    }

    /// The passes and pipelines for programs.
    pub fn to_json(&self) -> Result<Value, Error> {
        let mut pipelines = Vec::new();
        for p in self.pipelines() {
            let passes: Vec<&str> = self.expand(p.name)?.iter().map(|p| p.name).collect();
            let options = self.options(p.name)?;
            pipelines.push(json!({
                "name": p.name,
                "summary": p.summary,
                "text": p.text,
                "passes": passes,
                "options": options.iter().map(option_json).collect::<Vec<_>>(),
            }));
        }
        let pass = |p: &crate::PassInfo| {
            json!({
                "name": p.name,
                "summary": p.summary,
                "options": p.options.iter().map(option_json).collect::<Vec<_>>(),
            })
        };
        let passes: Vec<Value> = self.passes().map(pass).collect();
        Ok(json!({ "pipelines": pipelines, "passes": passes }))
    }
}

/// A row per option: name, kind, default, help.
fn write_options(out: &mut String, options: &[OptionInfo]) {
    let width = |cell: fn(&OptionInfo) -> usize| options.iter().map(cell).max().unwrap_or(0);
    let names = width(|o| o.name.chars().count());
    let kinds = width(|o| kind(o).chars().count());
    let defaults = width(|o| o.default.chars().count());
    for o in options {
        let _ = writeln!(
            out,
            "    {:names$}  {:kinds$}  {:defaults$}  {}",
            o.name,
            kind(o),
            o.default,
            o.help
        );
    }
}

fn kind(option: &OptionInfo) -> String {
    option.kind.to_string()
}

fn option_json(option: &OptionInfo) -> Value {
    let mut json = json!({
        "name": option.name,
        "kind": match option.kind {
            OptionKind::Choice(_) => "choice".to_owned(),
            kind => kind.to_string(),
        },
        "default": option.default,
        "help": option.help,
    });
    if let OptionKind::Choice(names) = option.kind {
        json["choices"] = json!(names);
    }
    json
}
