//! The steps as text, and how they follow on each other.

use std::fmt::Write;

use onnxq_runtime::{Location, Parameter, ProgramSource, StepSource};
use onnxq_tensor::{DType, Dims};

use crate::{
    EmitError, kernels,
    layout::{binding, call, import, signature},
    names::Names,
};

/// Bytes of a line of memory.
const LINE: usize = 64;

/// A program with names for all that it has.
pub(crate) struct Printed<'p> {
    pub(crate) source: &'p ProgramSource,
    pub(crate) inputs: Vec<Tensor>,
    pub(crate) outputs: Vec<Tensor>,
    /// The function of each step.
    functions: Vec<String>,
    /// Steps before the first and from the last on that only turn floats of inputs into codes, and
    /// codes into outputs.
    pub(crate) quantizing: usize,
    pub(crate) dequantizing: usize,
}

/// An input or an output.
pub(crate) struct Tensor {
    /// Its name in Rust, and in the model.
    pub(crate) field: String,
    pub(crate) name: String,
    pub(crate) dtype: DType,
    pub(crate) dims: Dims,
    /// The type of its elements.
    pub(crate) element: &'static str,
    pub(crate) len: usize,
    pub(crate) location: Location,
    /// What its codes are, where a step does nothing but to quantize or to dequantize it.
    pub(crate) codes: Option<Codes>,
}

/// A tensor of codes.
pub(crate) struct Codes {
    pub(crate) location: Location,
    pub(crate) scale: f32,
    pub(crate) zero: i32,
    pub(crate) element: &'static str,
    /// How the codes lie, where that is not as the dimensions say.
    pub(crate) channels_last: bool,
}

impl Tensor {
    /// Whether the type in Rust is the type in the model.
    pub(crate) fn is_as_written(&self) -> bool {
        use DType::{BF16, Bool, F16};
        !matches!(self.dtype, Bool | F16 | BF16)
    }
}

/// The type of elements in Rust.
fn element(dtype: DType) -> Option<&'static str> {
    Some(match dtype {
        DType::F32 => "f32",
        DType::F64 => "f64",
        DType::U8 | DType::Bool => "u8",
        DType::I8 => "i8",
        DType::U16 | DType::F16 | DType::BF16 => "u16",
        DType::U32 => "u32",
        DType::I32 => "i32",
        DType::U64 => "u64",
        DType::I64 => "i64",
        _ => return None,
    })
}

impl<'p> Printed<'p> {
    pub(crate) fn new(source: &'p ProgramSource) -> Result<Printed<'p>, EmitError> {
        let mut names = Names::default();
        let tensor = |names: &mut Names, port: &onnxq_runtime::Port, location, other| {
            let name = port.name.clone();
            let Some(element) = element(port.dtype) else {
                let dtype = port.dtype;
                return Err(EmitError::Type { name, dtype });
            };
            Ok(Tensor {
                field: names.add(&name, other),
                name,
                dtype: port.dtype,
                element,
                len: port.dims.iter().product(),
                dims: port.dims.clone(),
                location,
                codes: None,
            })
        };
        let inputs = source.inputs.iter().enumerate();
        let inputs = inputs.map(|(i, port)| tensor(&mut names, port, Location::Input(i), "input"));
        let inputs = inputs.collect::<Result<Vec<_>, _>>()?;
        let mut names = Names::default();
        let outputs = source.outputs.iter().map(|(port, location)| {
            if matches!(location, Location::Input(_)) {
                return Err(EmitError::NotComputed(port.name.clone()));
            }
            tensor(&mut names, port, *location, "output")
        });
        let outputs = outputs.collect::<Result<Vec<_>, _>>()?;
        let own = [
            "array",
            "buffers",
            "cast",
            "compute",
            "dequantize_outputs",
            "elements",
            "elements_mut",
            "quantize_inputs",
            "run",
        ];
        let mut functions = Names::without(kernels::all_items().into_iter().chain(own));
        let functions = source
            .steps
            .iter()
            .map(|step| functions.add(&step.name, "step"));
        let functions = functions.collect();
        let mut printed = Printed {
            source,
            inputs,
            outputs,
            functions,
            quantizing: 0,
            dequantizing: source.steps.len(),
        };
        printed.find_codes();
        Ok(printed)
    }

    /// Finds the steps at both ends that change between floats and codes, if those at the beginning do so
    /// for all inputs.
    fn find_codes(&mut self) {
        let steps = &self.source.steps;
        let uses = |location: Location| {
            let parameters = steps.iter().flat_map(|step| &step.parameters);
            parameters.filter(|p| p.location == location).count()
        };
        for step in steps {
            let Some((from, to, codes)) = change(step) else {
                break;
            };
            let Location::Input(i) = from else { break };
            if uses(from) != 1 || !codes.quantizes {
                break;
            }
            self.inputs[i].codes = Some(Codes {
                location: to,
                scale: codes.scale,
                zero: codes.zero,
                element: if codes.signed { "i8" } else { "u8" },
                channels_last: codes.channels_last,
            });
            self.quantizing += 1;
        }
        if self.inputs.is_empty() || self.inputs.iter().any(|input| input.codes.is_none()) {
            self.inputs.iter_mut().for_each(|input| input.codes = None);
            self.quantizing = 0;
            return;
        }
        for step in steps[self.quantizing..].iter().rev() {
            let Some((from, to, codes)) = change(step) else {
                break;
            };
            let outputs = self
                .outputs
                .iter_mut()
                .filter(|output| output.location == to);
            let outputs: Vec<&mut Tensor> = outputs.collect();
            if outputs.is_empty() || codes.quantizes || !matches!(from, Location::Arena(..)) {
                break;
            }
            for output in outputs {
                output.codes = Some(Codes {
                    location: from,
                    scale: codes.scale,
                    zero: codes.zero,
                    element: if codes.signed { "i8" } else { "u8" },
                    channels_last: codes.channels_last,
                });
            }
            self.dequantizing -= 1;
        }
    }

    /// Whether all inputs can be given as codes.
    pub(crate) fn takes_codes(&self) -> bool {
        self.quantizing > 0
    }

    /// Whether some outputs can be had as codes then.
    pub(crate) fn gives_codes(&self) -> bool {
        self.takes_codes() && self.dequantizing < self.source.steps.len()
    }

    /// Whether data can make the model fail.
    pub(crate) fn is_fallible(&self) -> bool {
        self.source.steps.iter().any(|step| step.fallible)
    }

    /// The constants, in whole lines.
    pub(crate) fn constants(&self) -> Vec<u8> {
        let mut bytes = self.source.constants.clone();
        bytes.resize(bytes.len().next_multiple_of(LINE), 0);
        bytes
    }

    /// The steps with the names of their functions.
    pub(crate) fn steps(&self) -> impl Iterator<Item = (&str, &'p StepSource)> {
        let functions = self.functions.iter().map(String::as_str);
        functions.zip(&self.source.steps)
    }

    /// `src/model.rs`.
    pub(crate) fn model(&self) -> String {
        let mut functions = String::new();
        for (name, step) in self.steps() {
            functions.push('\n');
            functions.push_str(&function(name, step));
        }
        let mut body = String::new();
        for part in self.parts() {
            let (ok, end) = result_of(part.fallible);
            let mut parameters = vec!["cx: &mut Context<'_>".to_owned()];
            if part.inputs {
                parameters.push("inputs: &Inputs<'_>".to_owned());
            }
            let head = signature(&format!("pub(crate) fn {}", part.name), &parameters, ok);
            let calls = self.calls(part.steps);
            let _ = write!(body, "\n/// {}\n{head}{calls}{end}}}\n", part.what);
        }
        body.push_str(&functions);
        let imports = self.imports(&body);
        format!(
            "//! The steps of the model, in the order in which they run.\n//!\n//! Buffers are ranges of lines of 64 \
             bytes in one arena, from the step that writes them to the\n//! last one that reads them.\n\n{imports}{body}"
        )
    }

    /// The functions that run steps, in order.
    pub(crate) fn parts(&self) -> Vec<Part> {
        let count = self.source.steps.len();
        let all = [
            (
                "quantize_inputs",
                0..self.quantizing,
                "Makes codes of the inputs.",
            ),
            (
                "compute",
                self.quantizing..self.dequantizing,
                "Computes the model.",
            ),
            (
                "dequantize_outputs",
                self.dequantizing..count,
                "Makes floats of the codes of the outputs.",
            ),
        ];
        let parts = all
            .into_iter()
            .filter(|(name, steps, _)| *name == "compute" || !steps.is_empty());
        let parts = parts.map(|(name, steps, what)| {
            let own = &self.source.steps[steps.clone()];
            let input = |p: &Parameter| matches!(p.location, Location::Input(_));
            Part {
                name,
                what,
                inputs: own.iter().flat_map(|step| &step.parameters).any(input),
                fallible: own.iter().any(|step| step.fallible),
                steps,
            }
        });
        parts.collect()
    }

    fn imports(&self, body: &str) -> String {
        let mut lines = Vec::new();
        let has = |name: &str| {
            let mut words = body.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            words.any(|word| word == name)
        };
        for name in ["IndexError", "Inputs"] {
            if has(name) {
                lines.push(name.to_owned());
            }
        }
        let kernels = kernels::items_in(body);
        // A word in a comment, or a variable, is no use of an item.
        let kernels: Vec<&str> = kernels
            .into_iter()
            .filter(|item| is_used(body, item))
            .collect();
        lines.push(import("kernels", &kernels));
        let memory = [
            "Constants",
            "Context",
            "buffers",
            "cast",
            "elements",
            "elements_mut",
        ];
        let memory: Vec<&str> = memory
            .into_iter()
            .filter(|item| is_used(body, item))
            .collect();
        lines.push(import("tensors", &memory));
        let mut text = String::from("use crate::{\n");
        let (names, modules): (Vec<&String>, Vec<&String>) =
            lines.iter().partition(|line| !line.contains("::"));
        if !names.is_empty() {
            let names: Vec<&str> = names.into_iter().map(String::as_str).collect();
            let _ = writeln!(text, "    {},", names.join(", "));
        }
        for module in modules {
            let _ = writeln!(text, "    {module},");
        }
        text.push_str("};\n");
        text
    }

    /// The calls of some steps.
    fn calls(&self, steps: std::ops::Range<usize>) -> String {
        let mut text = String::new();
        for i in steps {
            text.push_str(&self.call(&self.functions[i], &self.source.steps[i]));
        }
        text
    }

    fn call(&self, name: &str, step: &StepSource) -> String {
        // Each buffer once, whichever parameters it is.
        let mut buffers: Vec<(Location, &str)> = Vec::new();
        for parameter in &step.parameters {
            let known = buffers
                .iter()
                .any(|(location, _)| *location == parameter.location);
            if matches!(parameter.location, Location::Arena(..)) && !known {
                buffers.push((parameter.location, &parameter.name));
            }
        }
        let mut text = String::new();
        if !buffers.is_empty() {
            let names: Vec<&str> = buffers.iter().map(|(_, name)| *name).collect();
            let ranges = buffers.iter().filter_map(|(location, _)| match location {
                Location::Arena(at, lines) => Some(format!("{at}..{}", at + lines)),
                _ => None,
            });
            let ranges: Vec<String> = ranges.collect();
            let _ = match (&names[..], &ranges[..]) {
                ([name], [range]) => writeln!(text, "    let {name} = &mut cx.arena[{range}];"),
                _ => {
                    text.push_str(&binding(&names, &ranges));
                    Ok(())
                }
            };
        }
        let mut arguments = Vec::new();
        if step.needs.cpu {
            arguments.push("cx.cpu".to_owned());
        }
        if step.needs.constants {
            arguments.push("cx.constants".to_owned());
        }
        for parameter in &step.parameters {
            let known = buffers
                .iter()
                .find(|(location, _)| *location == parameter.location);
            arguments.push(self.argument(parameter, known.map(|(_, name)| *name)));
        }
        if step.needs.scratch {
            arguments.push("cx.scratch".to_owned());
        }
        let mark = if step.fallible { "?" } else { "" };
        text.push_str(&call(name, &arguments, mark));
        text
    }

    fn argument(&self, parameter: &Parameter, buffer: Option<&str>) -> String {
        let size = match parameter.element {
            "u8" | "i8" => 1,
            "u16" => 2,
            "u64" | "i64" => 8,
            _ => 4,
        };
        match parameter.location {
            Location::Arena(..) => {
                let buffer = buffer.unwrap_or(&parameter.name);
                match parameter.mutable {
                    true => format!("elements_mut({buffer})"),
                    false => format!("elements({buffer})"),
                }
            }
            Location::Constant(at, bytes) => {
                format!("cx.constants.elements({at}, {})", bytes / size)
            }
            Location::Input(i) => {
                let input = &self.inputs[i];
                match input.element == parameter.element {
                    true => format!("inputs.{}", input.field),
                    false => format!("cast(inputs.{})", input.field),
                }
            }
        }
    }
}

/// What a step that does nothing but to change between floats and codes reads, writes, and changes.
fn change(step: &StepSource) -> Option<(Location, Location, &onnxq_runtime::Change)> {
    let change = step.change.as_ref()?;
    let mut read = step.parameters.iter().filter(|p| !p.mutable);
    let mut written = step.parameters.iter().filter(|p| p.mutable);
    Some((read.next()?.location, written.next()?.location, change))
}

/// Whether a name is used as an item: called, constructed, or named in a path or type.
fn is_used(text: &str, item: &str) -> bool {
    text.match_indices(item).any(|(at, _)| {
        let before = text[..at].chars().next_back().unwrap_or(' ');
        let after = &text[at + item.len()..];
        let line = text[..at].rsplit('\n').next().unwrap_or("");
        let starts = !before.is_ascii_alphanumeric() && before != '_' && before != '.';
        let called = ["(", " {", "::", "<"]
            .iter()
            .any(|next| after.starts_with(next));
        let named = item.starts_with(|c: char| c.is_ascii_uppercase())
            && after.starts_with([',', ')', ']', ' ', ';']);
        let comment = line.trim_start().starts_with("//");
        let declared = line.trim_end().ends_with("fn");
        starts && (called || named) && !comment && !declared
    })
}

/// A function that runs several steps.
pub(crate) struct Part {
    pub(crate) name: &'static str,
    what: &'static str,
    steps: std::ops::Range<usize>,
    /// Whether it reads inputs, and whether data can make it fail.
    pub(crate) inputs: bool,
    pub(crate) fallible: bool,
}

/// The type of the result of a function that may fail, and what it ends with.
fn result_of(fallible: bool) -> (&'static str, &'static str) {
    match fallible {
        true => (" -> Result<(), IndexError>", "    Ok(())\n"),
        false => ("", ""),
    }
}

/// A step as a function.
fn function(name: &str, step: &StepSource) -> String {
    let mut parameters = Vec::new();
    if step.needs.cpu {
        parameters.push("cpu: Cpu".to_owned());
    }
    if step.needs.constants {
        parameters.push("constants: Constants<'_>".to_owned());
    }
    for p in &step.parameters {
        let reference = if p.mutable { "&mut " } else { "&" };
        parameters.push(format!("{}: {reference}[{}]", p.name, p.element));
    }
    if step.needs.scratch {
        parameters.push("scratch: &mut [Line]".to_owned());
    }
    let mut text = format!("/// `{}`: {}", step.name, step.kernel);
    if step.operations > 0 {
        let _ = write!(text, ", {} multiplications", step.operations / 2);
    }
    text.push_str(".\n");
    if parameters.len() > 7 {
        text.push_str(
            "#[expect(clippy::too_many_arguments, reason = \"a step has many operands\")]\n",
        );
    }
    let (ok, end) = result_of(step.fallible);
    text.push_str(&signature(&format!("fn {name}"), &parameters, ok));
    text.push_str(&step.body);
    text.push_str(end);
    text.push_str("}\n");
    text
}
