//! If, Loop and Scan, whose bodies are random graphs that read what is around them.

use onnxq_tensor::{DType, Tensor};

use super::Recipe;
use crate::random_graph::{Generator, Group, Known, Scope, TRACES, draft::Draft, type_text};

pub(super) static RECIPES: &[Recipe] = &[
    Recipe {
        name: "if",
        make: branch,
    },
    Recipe {
        name: "loop",
        make: repeat,
    },
    Recipe {
        name: "scan",
        make: scan,
    },
];

/// A body: its nodes and constants, and values that it may give.
struct Body {
    scope: Scope,
    given: usize,
}

impl Body {
    /// A value made inside, with this property: the last one.
    fn made(&self, fits: impl Fn(&Known) -> bool) -> Option<&Known> {
        self.scope.known[self.given..]
            .iter()
            .rev()
            .find(|k| fits(k))
    }

    /// The body as text.
    fn text(&self, name: &str, inputs: &[String], outputs: &[String], more: &[String]) -> String {
        let constants: Vec<&str> = self.scope.constants.values().map(String::as_str).collect();
        let constants = match constants.is_empty() {
            true => String::new(),
            false => format!(" <{}>", constants.join(", ")),
        };
        format!(
            "{name} ({}) => ({}){constants} {{ {} {} }}",
            inputs.join(", "),
            outputs.join(", "),
            self.scope.lines.join(" "),
            more.join(" ")
        )
    }
}

/// A body of a few groups, which also reads `inputs`.
fn body(d: &mut Draft<'_>, inputs: &[(&str, [Tensor; TRACES])]) -> Body {
    let known = inputs.iter().map(|(name, traces)| Known {
        name: (*name).to_owned(),
        traces: traces.clone(),
        is_used: false,
    });
    let scope = Scope {
        known: known.collect(),
        ..Scope::default()
    };
    d.generator.scopes.push(scope);
    let groups = 1 + d.random().below(3);
    d.generator.grow(groups);
    let scope = d.generator.scopes.pop().unwrap_or_default();
    Body {
        scope,
        given: inputs.len(),
    }
}

fn typed(known: &Known, name: &str) -> String {
    format!("{} {name}", type_text(known.dtype(), known.dims()))
}

fn branch(g: &mut Generator) -> Option<Group> {
    let mut d = Draft::new(g);
    let condition = match d.random().below(3) {
        0 => d.fill(DType::Bool, &[], 1.0),
        1 => d.fill(DType::Bool, &[], 0.0),
        _ => {
            let x = d.float(1..=4)?;
            let sum = d.node("ReduceMax <keepdims = 0>", &[&x.name]);
            let limit = d.fill(x.dtype, &[], 0.5);
            d.node("Greater", &[&sum, &limit])
        }
    };
    let then_body = body(&mut d, &[]);
    let then_value = then_body.made(|_| true)?.clone();
    let else_body = body(&mut d, &[]);
    let dtype = then_value.dtype();
    let else_value = else_body.made(|k| k.dtype() == dtype)?.clone();
    let same = then_value.dims() == else_value.dims();
    if !same && d.random().below(3) > 0 {
        return None;
    }
    // A value captured may be given as it is.
    let outputs = [
        typed(&then_value, &then_value.name),
        typed(&else_value, &else_value.name),
    ];
    let name = d.generator.name("branch");
    let then_text = then_body.text(&format!("{name}_then"), &[], &outputs[..1], &[]);
    let else_text = else_body.text(&format!("{name}_else"), &[], &outputs[1..], &[]);
    let y = d.node(
        &format!("If <then_branch = {then_text}, else_branch = {else_text}>"),
        &[&condition],
    );
    d.done(&[y])
}

fn exactly(tensor: Tensor) -> [Tensor; TRACES] {
    [tensor.clone(), tensor.clone(), tensor]
}

fn traces_of(d: &Draft<'_>, name: &str) -> Option<[Tensor; TRACES]> {
    d.generator
        .everything()
        .find(|k| k.name == name)
        .map(|k| k.traces.clone())
}

fn repeat(g: &mut Generator) -> Option<Group> {
    let mut d = Draft::new(g);
    let x = d.float(0..=3)?;
    let traces = traces_of(&d, &x.name)?;
    let [i, go, state] = ["i", "go", "state"].map(|what| d.generator.name(what));
    let inputs = [
        (i.as_str(), exactly(Tensor::scalar(0i64))),
        (
            go.as_str(),
            exactly(Tensor::from_bools([].as_slice(), vec![true]).ok()?),
        ),
        (state.as_str(), traces),
    ];
    let inside = body(&mut d, &inputs);
    let [again, next] = ["again", "next"].map(|what| d.generator.name(what));
    let mut more = Vec::new();
    // Ends by itself, or by the count.
    let ends = d.random().one_in(3);
    if ends {
        let limit = d.generator.name("limit");
        let limit_line = format!("{limit} = Constant <value = int64 {{1}}> ()");
        more.extend([limit_line, format!("{again} = Less ({i}, {limit})")]);
    } else {
        more.push(format!("{again} = Identity ({go})"));
    }
    let fits = |k: &Known| k.dtype() == x.dtype && k.dims() == x.dims;
    let from = inside.made(fits).map_or(state.clone(), |k| k.name.clone());
    more.push(format!("{next} = Tanh ({from})"));
    let ty = type_text(x.dtype, &x.dims);
    let mut outputs = vec![format!("bool {again}"), format!("{ty} {next}")];
    let scanned = inside.made(|_| true).filter(|_| d.random().one_in(2));
    outputs.extend(scanned.map(|k| typed(k, &k.name)));
    let inputs = [
        format!("int64 {i}"),
        format!("bool {go}"),
        format!("{ty} {state}"),
    ];
    let name = d.generator.name("body");
    let text = inside.text(&name, &inputs, &outputs, &more);
    let count = match ends && d.random().one_in(2) {
        true => "\"\"".to_owned(),
        false => {
            let count = d.random().within(0, 3);
            d.fill(DType::I64, &[], count as f64)
        }
    };
    let begin = match d.random().one_in(3) {
        true => "\"\"".to_owned(),
        false => d.fill(DType::Bool, &[], 1.0),
    };
    let y = d.nodes(
        &format!("Loop <body = {text}>"),
        &[&count, &begin, &x.name],
        outputs.len() - 1,
    );
    d.done(&y)
}

fn scan(g: &mut Generator) -> Option<Group> {
    let mut d = Draft::new(g);
    let x = d.float(2..=3)?;
    let axis = d.random().below(x.rank());
    let mut dims = x.dims.clone();
    dims.remove(axis);
    let start = d.constant(x.dtype, &dims, -0.5, 0.5);
    let element = Tensor::fill(x.dtype, dims.as_slice(), &Tensor::scalar(0.25f32)).ok()?;
    let [state, slice] = ["state", "slice"].map(|what| d.generator.name(what));
    let inputs = [
        (state.as_str(), exactly(element.clone())),
        (slice.as_str(), exactly(element)),
    ];
    let inside = body(&mut d, &inputs);
    let [sum, next] = ["sum", "next"].map(|what| d.generator.name(what));
    let fits = |k: &Known| k.dtype() == x.dtype && k.dims() == dims;
    let from = inside.made(fits).map_or(state.clone(), |k| k.name.clone());
    let more = [
        format!("{sum} = Add ({from}, {slice})"),
        format!("{next} = Tanh ({sum})"),
    ];
    let ty = type_text(x.dtype, &dims);
    let mut outputs = vec![format!("{ty} {next}")];
    let scanned = inside.made(|_| true).filter(|_| d.random().one_in(2));
    match scanned {
        Some(k) => outputs.push(typed(k, &k.name)),
        None => outputs.push(format!("{ty} {sum}")),
    }
    let inputs = [format!("{ty} {state}"), format!("{ty} {slice}")];
    let name = d.generator.name("body");
    let text = inside.text(&name, &inputs, &outputs, &more);
    let reverse = d.random().below(2);
    let attrs = format!(
        "num_scan_inputs = 1, scan_input_axes = [{axis}], scan_input_directions = [{reverse}]"
    );
    let y = d.nodes(
        &format!("Scan <body = {text}, {attrs}>"),
        &[&start, &x.name],
        2,
    );
    d.done(&y)
}
