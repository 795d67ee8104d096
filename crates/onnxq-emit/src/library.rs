//! `src/lib.rs`: what a crate's user sees.

use std::fmt::Write;

use onnxq_runtime::Location;

use crate::{
    EmitOptions,
    layout::signature_at,
    model::{Codes, Printed, Tensor},
    package::targets,
};

/// Bytes of a line of memory.
const LINE: usize = 64;

/// The text.
pub(crate) fn library(printed: &Printed<'_>, options: &EmitOptions) -> String {
    let whole = |text: &str| entry(printed, text, Entry::Floats);
    let raw = |text: &str| match printed.takes_codes() {
        true => entry(printed, text, Entry::Codes),
        false => String::new(),
    };
    let text = whole(include_str!("templates/lib.rs"))
        .replace("@TYPES@", &types(printed))
        .replace("@WEIGHTS@", &printed.constants().len().to_string())
        .replace("@ARENA@", &printed.source.arena.to_string())
        .replace("@SCRATCH@", &printed.source.scratch.to_string())
        .replace("@RAW_RUN@", &raw(include_str!("templates/raw_run.rs")))
        .replace(
            "@RAW_METHOD@",
            &raw(include_str!("templates/raw_method.rs")),
        )
        .replace("@RAW_ON@\n", &raw(include_str!("templates/raw_on.rs")));
    format!("{}{text}", documentation(printed, options))
}

/// What the functions of an entry take and give.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Entry {
    Floats,
    Codes,
}

/// A template with what is its own for an entry.
fn entry(printed: &Printed<'_>, text: &str, entry: Entry) -> String {
    let codes = entry == Entry::Codes;
    let (name, takes) = match codes {
        true => ("run_quantized", "QuantizedInputs"),
        false => ("run", "Inputs"),
    };
    let gives = match codes && printed.gives_codes() {
        true => "QuantizedOutputs",
        false => "Outputs",
    };
    let fallible = printed.is_fallible();
    let result = |life: &str| match fallible {
        true => format!(" -> Result<{gives}<{life}>, IndexError>"),
        false => format!(" -> {gives}<{life}>"),
    };
    let errors = |indent: &str| match fallible {
        true => {
            format!("{indent}///\n{indent}/// # Errors\n{indent}/// An index is out of bounds.\n")
        }
        false => String::new(),
    };
    let inputs = format!("inputs: &{takes}<'_>");
    let list = |first: &[&str]| {
        let first = first.iter().map(|&parameter| parameter.to_owned());
        first.chain([inputs.clone()]).collect::<Vec<String>>()
    };
    let run = list(&["workspace: &'a mut Workspace"]);
    let run = signature_at("", &format!("pub fn {name}<'a>"), &run, &result("'a"));
    let method = list(&["&mut self"]);
    let method = signature_at("    ", &format!("pub fn {name}"), &method, &result("'_"));
    let run_on = list(&["cpu: Cpu", "memory: &'a mut [Line]"]);
    let run_on = signature_at("", &format!("fn {name}_on<'a>"), &run_on, &result("'a"));
    let copies = if codes {
        copies(printed)
    } else {
        String::new()
    };
    text.replace("@RUN@", &run)
        .replace("@METHOD@", &method)
        .replace("@RUN_ON@", &run_on)
        .replace("@ERRORS@", &errors(""))
        .replace("@ERRORS4@", &errors("    "))
        .replace("@COPIES@", &copies)
        .replace("@CALLS@", &calls(printed, codes))
        .replace(
            "@RESULT@",
            &made(printed, gives, codes && printed.gives_codes()),
        )
}

/// The calls of the parts of the model; from codes without those that make and unmake them.
fn calls(printed: &Printed<'_>, codes: bool) -> String {
    let mut text = String::new();
    for part in printed.parts() {
        let skipped =
            part.name == "quantize_inputs" || (part.name != "compute" && printed.gives_codes());
        if codes && skipped {
            continue;
        }
        let inputs = if part.inputs { ", inputs" } else { "" };
        let mark = if part.fallible { "?" } else { "" };
        let _ = writeln!(text, "    model::{}(&mut cx{inputs}){mark};", part.name);
    }
    text
}

/// The outputs as an expression, a struct at the end of a function.
fn made(printed: &Printed<'_>, ty: &str, codes: bool) -> String {
    let mut fields = String::new();
    let (open, close, indent) = match printed.is_fallible() {
        true => ("Ok(", ")", "    "),
        false => ("", "", "    "),
    };
    for output in &printed.outputs {
        let location = match &output.codes {
            Some(found) if codes => found.location,
            _ => output.location,
        };
        let value = match location {
            Location::Arena(at, lines) => {
                format!("tensors::array(&cx.arena[{at}..{}])", at + lines)
            }
            Location::Constant(at, _) => {
                format!("tensors::array(&cx.constants.0[{}..])", at / LINE)
            }
            Location::Input(_) => unreachable!("no input is an output"),
        };
        let _ = writeln!(fields, "    {indent}{}: {value},", output.field);
    }
    format!("{open}{ty} {{\n{fields}{indent}}}{close}")
}

/// The statements that put codes where the model has them.
fn copies(printed: &Printed<'_>) -> String {
    let mut text = String::new();
    for input in &printed.inputs {
        let Some(Codes {
            location: Location::Arena(at, lines),
            ..
        }) = input.codes
        else {
            continue;
        };
        let (field, len) = (&input.field, input.len);
        let _ = writeln!(
            text,
            "    let {field} = tensors::elements_mut(&mut cx.arena[{at}..{}]);\n    \
             {field}[..{len}].copy_from_slice(inputs.{field});",
            at + lines
        );
    }
    text
}

fn documentation(printed: &Printed<'_>, options: &EmitOptions) -> String {
    let source = printed.source;
    let operations: u64 = source.steps.iter().map(|step| step.operations).sum();
    let mut text = format!(
        "//! `{}`, compiled from `{}` for {}.\n//!\n",
        options.name,
        options.model,
        targets(&options.targets)
    );
    let _ = write!(
        text,
        "//! - {} multiplications of codes,\n//! - {} bytes of weights,\n//! - {} bytes of working memory: {} of \
         activations, {} of scratch.\n//!\n",
        operations / 2,
        printed.constants().len(),
        (source.arena + source.scratch) * LINE,
        source.arena * LINE,
        source.scratch * LINE
    );
    text.push_str("//! | | in the model | type | dimensions | scale | zero point |\n//! |---|---|---|---|---|---|\n");
    let all = printed.inputs.iter().map(|t| ("input", t));
    for (what, tensor) in all.chain(printed.outputs.iter().map(|t| ("output", t))) {
        let (scale, zero) = match &tensor.codes {
            None => (String::new(), String::new()),
            Some(codes) => (format!("{:?}", codes.scale), codes.zero.to_string()),
        };
        let _ = writeln!(
            text,
            "//! | {what} `{}` | `{}` | {} | {} | {scale} | {zero} |",
            tensor.field,
            tensor.name,
            tensor.dtype,
            dims(tensor)
        );
    }
    text.push_str(
        "//!\n//! # Steps\n//!\n//! What they read and write are inputs, constants, and lines of 64 bytes of the arena.\n//!\n\
         //! | node | kernel | multiplications | reads | writes |\n//! |---|---|---|---|---|\n",
    );
    for (_, step) in printed.steps() {
        let places = |mutable: bool| {
            let places = step.parameters.iter().filter(|p| p.mutable == mutable);
            let places: Vec<String> = places.map(|p| place(printed, p.location)).collect();
            places.join(", ")
        };
        let operations = match step.operations {
            0 => String::new(),
            n => (n / 2).to_string(),
        };
        let _ = writeln!(
            text,
            "//! | `{}` | {} | {operations} | {} | {} |",
            step.name,
            step.kernel,
            places(false),
            places(true)
        );
    }
    text
}

fn dims(tensor: &Tensor) -> String {
    let dims: Vec<String> = tensor.dims.iter().map(ToString::to_string).collect();
    dims.join(" × ")
}

fn place(printed: &Printed<'_>, location: Location) -> String {
    match location {
        Location::Input(i) => format!("`{}`", printed.inputs[i].field),
        Location::Constant(..) => "constants".to_owned(),
        Location::Arena(at, lines) => format!("{at}–{}", at + lines),
    }
}

/// Inputs, outputs, codes and the error.
fn types(printed: &Printed<'_>) -> String {
    let mut text = String::new();
    structure(
        &mut text,
        "Inputs",
        "What the model takes.",
        &printed.inputs,
        false,
    );
    structure(
        &mut text,
        "Outputs",
        "What the model gives.",
        &printed.outputs,
        false,
    );
    if printed.takes_codes() {
        constants(&mut text, &printed.inputs);
        let what = "What the model takes, as the codes that it makes of floats.";
        structure(&mut text, "QuantizedInputs", what, &printed.inputs, true);
    }
    if printed.gives_codes() {
        constants(&mut text, &printed.outputs);
        let what = "What the model gives, as the codes that it makes floats of.";
        structure(&mut text, "QuantizedOutputs", what, &printed.outputs, true);
    }
    if printed.is_fallible() {
        text.push_str(include_str!("templates/error.rs"));
    }
    text
}

/// Tensors as a struct.
fn structure(text: &mut String, name: &str, what: &str, tensors: &[Tensor], codes: bool) {
    let _ = write!(
        text,
        "\n/// {what}\n#[derive(Clone, Copy, Debug)]\npub struct {name}<'a> {{\n"
    );
    for tensor in tensors {
        field(text, tensor, tensor.codes.as_ref().filter(|_| codes));
    }
    text.push_str("}\n");
}

/// A tensor as a field.
fn field(text: &mut String, tensor: &Tensor, codes: Option<&Codes>) {
    let element = codes.map_or(tensor.element, |codes| codes.element);
    let mut what = format!("`{}`", tensor.name);
    if !tensor.dims.is_empty() {
        let _ = write!(what, ", {}", dims(tensor));
    }
    match codes {
        Some(codes) => {
            let name = tensor.field.to_uppercase();
            let _ = write!(what, ": `(code - {name}_ZERO_POINT) * {name}_SCALE`");
            if codes.channels_last {
                what.push_str("; dimension 1 is the last one in memory");
            }
        }
        None if !tensor.is_as_written() => {
            let _ = write!(what, ", {} as {}", tensor.dtype, tensor.element);
        }
        None => {}
    }
    let len = tensor.len;
    let _ = writeln!(
        text,
        "    /// {what}.\n    pub {}: &'a [{element}; {len}],",
        tensor.field
    );
}

/// What codes stand for.
fn constants(text: &mut String, tensors: &[Tensor]) {
    for tensor in tensors {
        let Some(codes) = &tensor.codes else { continue };
        let (upper, name) = (tensor.field.to_uppercase(), &tensor.name);
        let _ = write!(
            text,
            "\n/// What one step of the codes of `{name}` stands for.\npub const {upper}_SCALE: f32 = {:?};\n\
             \n/// The code of `{name}` that stands for 0.\npub const {upper}_ZERO_POINT: {} = {};\n",
            codes.scale, codes.element, codes.zero
        );
    }
}
