//! The files around the sources: manifest, recorded test, benchmark, README.

use std::{collections::BTreeSet, fmt::Write};

use onnxq_kernels::Isa;

use crate::{
    EmitOptions,
    layout::call,
    model::{Printed, Tensor},
};

/// Each feature of the kernels, and those that it needs.
static FEATURES: &[(&str, &[&str])] = &[
    ("amx", &["avx512vnni"]),
    ("avx2", &[]),
    ("avx512vnni", &[]),
    ("avxvnni", &["avx2"]),
    ("dotprod", &["neon"]),
    ("i8mm", &["dotprod"]),
    ("neon", &[]),
];

/// The features that targets need.
pub(crate) fn features(targets: &[Isa]) -> BTreeSet<&'static str> {
    let mut pending: Vec<&str> = targets.iter().map(|isa| isa.name()).collect();
    let mut features = BTreeSet::new();
    while let Some(name) = pending.pop() {
        if let Some((name, needs)) = FEATURES.iter().find(|(feature, _)| *feature == name)
            && features.insert(*name)
        {
            pending.extend(*needs);
        }
    }
    features
}

/// All features that sources may ask for, as cargo is told of them.
pub(crate) fn known_features() -> String {
    let names = std::iter::once("alloc").chain(FEATURES.iter().map(|(name, _)| *name));
    let names: Vec<String> = names.map(|name| format!("\"{name}\"")).collect();
    format!("cfg(feature, values({}))", names.join(", "))
}

/// The targets in words.
pub(crate) fn targets(targets: &[Isa]) -> String {
    let names: Vec<String> = targets.iter().map(|isa| format!("`{isa}`")).collect();
    names.join(", ")
}

/// `Cargo.toml`.
pub(crate) fn manifest(options: &EmitOptions, features: &BTreeSet<&str>) -> String {
    let list = |names: &mut dyn Iterator<Item = &str>| {
        let names: Vec<String> = names.map(|name| format!("\"{name}\"")).collect();
        names.join(", ")
    };
    let mut text = format!(
        "[package]\nname = \"{}\"\nversion = \"0.1.0\"\nedition = \"2024\"\nrust-version = \"{}\"\n\
         description = \"A model compiled to kernels\"\npublish = false\n\n[features]\n",
        options.name,
        env!("CARGO_PKG_RUST_VERSION"),
    );
    let mut default = std::iter::once("alloc").chain(features.iter().copied());
    let _ = write!(
        text,
        "default = [{}]\n# `Model`, which has memory of its own.\nalloc = []\n",
        list(&mut default)
    );
    if !features.is_empty() {
        text.push_str("# The tiers of instructions that are compiled in.\n");
    }
    for (name, needs) in FEATURES.iter().filter(|(name, _)| features.contains(name)) {
        let _ = writeln!(text, "{name} = [{}]", list(&mut needs.iter().copied()));
    }
    for (kind, name) in [("test", "golden"), ("example", "bench")] {
        let _ = write!(
            text,
            "\n[[{kind}]]\nname = \"{name}\"\nrequired-features = [\"alloc\"]\n"
        );
    }
    let _ = write!(
        text,
        "\n[lints.rust]\nmissing_docs = \"warn\"\nunsafe_code = \"deny\"\n\
         # The kernels know more tiers than this crate has.\n\
         unexpected_cfgs = {{ level = \"warn\", check-cfg = ['cfg(feature, values({}))'] }}\n",
        list(&mut FEATURES.iter().map(|(name, _)| *name))
    );
    text
}

/// The name of the crate in Rust.
fn module(options: &EmitOptions) -> String {
    options.name.replace('-', "_")
}

/// Inputs read from recorded bytes, as fields of `Inputs`.
fn recorded(tensors: &[Tensor]) -> String {
    let mut text = String::new();
    for Tensor { field, element, .. } in tensors {
        let _ = writeln!(
            text,
            "    let {field} = read(&mut recorded, {element}::from_le_bytes);"
        );
    }
    text
}

/// `Inputs` of variables with the names of its fields.
fn inputs(tensors: &[Tensor]) -> String {
    let list: Vec<String> = tensors
        .iter()
        .map(|t| format!("{}: &{}", t.field, t.field))
        .collect();
    let line = list.join(", ");
    if line.len() <= 18 {
        return format!("Inputs {{ {line} }}");
    }
    let lines: String = list
        .iter()
        .map(|field| format!("        {field},\n"))
        .collect();
    format!("Inputs {{\n{lines}    }}")
}

/// A template of a program that runs the model on recorded inputs.
fn on_recorded(template: &str, printed: &Printed<'_>, options: &EmitOptions) -> String {
    let mark = match printed.is_fallible() {
        true => ".unwrap()",
        false => "",
    };
    template
        .replace("@CRATE@", &module(options))
        .replace("@READ@", &recorded(&printed.inputs))
        .replace("@INPUTS@", &inputs(&printed.inputs))
        .replace("@MARK@", mark)
}

/// `tests/golden.rs`.
pub(crate) fn golden(printed: &Printed<'_>, options: &EmitOptions) -> String {
    let mut checks = String::new();
    for output in &printed.outputs {
        let (field, element) = (&output.field, output.element);
        let arguments = [
            "&mut recorded".to_owned(),
            format!("\"{field}\""),
            format!("outputs.{field}"),
            format!("{element}::to_le_bytes"),
        ];
        checks.push_str(&call("check", &arguments, ""));
    }
    let template = include_str!("templates/golden.rs");
    on_recorded(template, printed, options).replace("@CHECKS@", &checks)
}

/// `examples/bench.rs`.
pub(crate) fn bench(printed: &Printed<'_>, options: &EmitOptions) -> String {
    on_recorded(include_str!("templates/bench.rs"), printed, options)
}

/// `README.md`.
pub(crate) fn readme(printed: &Printed<'_>, options: &EmitOptions) -> String {
    let name = module(options);
    let mut inputs = String::new();
    let mut given = Vec::new();
    for input in &printed.inputs {
        let zero = if input.element.starts_with('f') {
            "0.0"
        } else {
            "0"
        };
        let _ = writeln!(inputs, "let {} = [{zero}; {}];", input.field, input.len);
        given.push(format!("{0}: &{0}", input.field));
    }
    let mark = if printed.is_fallible() { "?" } else { "" };
    let mut gives = String::new();
    for output in &printed.outputs {
        let _ = writeln!(
            gives,
            "let {0}: &[{1}; {2}] = outputs.{0};",
            output.field, output.element, output.len
        );
    }
    let codes = match printed.takes_codes() {
        true => {
            "`run_quantized` takes and gives codes\ninstead of floats, which stand for numbers as `*_SCALE` and `*_ZERO_POINT` say.\n"
        }
        false => "",
    };
    format!(
        "# {}\n\n`{}` as a Rust crate without dependencies, for {}.\n\n```rust\nlet mut model = {name}::Model::new();\n{inputs}\
         let outputs = model.run(&{name}::Inputs {{ {} }}){mark};\n{gives}```\n\n`Model::new` takes all memory there is to take; \
         `run` takes none. Without the feature `alloc`, `{name}::run` works in a\n`Workspace` of yours. {codes}\n\
         `cargo test --release` holds the outputs for a recorded input against the recorded ones, bit for bit;\n\
         `cargo run --release --example bench` measures. `cargo doc --open` shows the steps, their memory and their\nsizes; \
         `src/model.rs` has a function for each.\n",
        options.name,
        options.model,
        targets(&options.targets),
        given.join(", ")
    )
}
