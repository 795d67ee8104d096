//! Inputs to execute a model on, the same on every machine.
//!
//! Each input is a constant of the text form, described by the directive `inputs` of a
//! [case](crate::case) or by default:
//!
//! | value | elements |
//! |---|---|
//! | `uniform(lo, hi)` | uniform in [lo, hi), integers in lo to hi |
//! | `fill(v)` | all the same |
//! | `{1, 2}` | these |
//!
//! A type before the name, `float[2, 3] x`, is needed where the model does not give the rank.

use indexmap::IndexMap;
use onnxq_ir::{Graph, Type, text};
use onnxq_tensor::{DType, Tensor};

use crate::{case::Case, oracle::Tensors};

/// The inputs of `graph`: those with a default are left out unless `case` describes them.
///
/// # Errors
/// Names the input that cannot be made and says why.
pub fn generate(graph: &Graph, case: &Case) -> Result<Tensors, String> {
    let mut dims = case.dims.clone();
    let mut tensors = Tensors::new();
    for (index, &n) in graph.inputs().iter().enumerate() {
        let value = graph.value(graph.result(n, 0));
        let given = |(left, _): &&(String, String)| input_name(left) == value.name;
        let given = case.inputs.iter().find(given);
        if given.is_none() && !graph.node(n).is_input() {
            continue;
        }
        let ty = match given {
            Some((left, _)) if left != input_name(left) => left.clone(),
            _ => format!("{} x", type_text(value.ty.as_ref(), &mut dims)),
        };
        let data = match given {
            Some((_, data)) => constant_data(data, index)?,
            None => default_data(&ty, index),
        };
        let tensor = constant(&ty, &data)
            .map_err(|e| format!("input '{}': {e} ({ty} = {data})", value.name))?;
        tensors.insert(value.name.clone(), tensor);
    }
    for (left, _) in &case.inputs {
        if !tensors.contains_key(input_name(left)) {
            return Err(format!("there is no input '{}'", input_name(left)));
        }
    }
    Ok(tensors)
}

/// The name in `float[2, 3] x` or `x`.
fn input_name(left: &str) -> &str {
    left.rsplit([' ', ']'])
        .next()
        .map_or(left, |name| name.trim_matches('"'))
}

/// Type and dimensions with a value for every symbol; a symbol without one gets the next integer
/// from 2.
fn type_text(ty: Option<&Type>, dims: &mut IndexMap<String, i64>) -> String {
    let dtype = ty.and_then(Type::dtype).unwrap_or(DType::F32);
    let mut text = dtype.name().to_owned();
    let shape: &[_] = ty.and_then(Type::shape).map_or(&[], |shape| shape);
    if shape.is_empty() {
        return text;
    }
    let mut next = 2 + dims.len() as i64;
    let sizes = shape.iter().map(|dim| {
        for symbol in dim.symbols() {
            if !dims.contains_key(symbol) {
                dims.insert(symbol.to_owned(), next);
                next += 1;
            }
        }
        let size = dim.eval(|symbol| dims.get(symbol).copied());
        size.unwrap_or(2).to_string()
    });
    let sizes: Vec<String> = sizes.collect();
    text.push_str(&format!("[{}]", sizes.join(", ")));
    text
}

fn constant_data(data: &str, index: usize) -> Result<String, String> {
    if data.starts_with('{') {
        return Ok(data.to_owned());
    }
    let call = data.strip_suffix(')').and_then(|d| d.split_once('('));
    match call {
        Some(("fill", value)) => Ok(format!(r#"["fill": "{value}"]"#)),
        Some(("uniform", bounds)) => {
            let (lo, hi) = bounds.split_once(',').ok_or("uniform takes two bounds")?;
            let (lo, hi) = (lo.trim(), hi.trim());
            Ok(format!(
                r#"["seed": "{index}", "lo": "{lo}", "hi": "{hi}"]"#
            ))
        }
        _ => Err(format!(
            "expected uniform, fill or elements, found '{data}'"
        )),
    }
}

fn default_data(ty: &str, index: usize) -> String {
    let is_number = ty.starts_with("int") || ty.starts_with("uint");
    match is_number {
        // Small, so that they are indices, sizes or codes alike.
        true => format!(r#"["seed": "{index}", "lo": "0", "hi": "3"]"#),
        false => format!(r#"["seed": "{index}"]"#),
    }
}

/// The constant that the text form knows as `ty = data`.
fn constant(ty: &str, data: &str) -> Result<Tensor, String> {
    let text = format!("main () => () <{ty} = {data}> {{}}");
    let model = text::parse(&text, &()).map_err(|e| e.message)?;
    let value = &model.graph.initializers[0].value;
    Ok(value.as_dense().ok_or("it is sparse")?.clone())
}

#[cfg(test)]
mod tests {
    use onnxq_ir::Model;

    use super::*;

    fn inputs(directives: &str, signature: &str) -> Result<Tensors, String> {
        let case = Case::parse(&format!("passes:\n{directives}\n{signature} => () {{}}"))?;
        let def = text::parse(&case.model, &()).map_err(|e| e.to_string())?;
        generate(&Model::from_def(def).unwrap().graph, &case)
    }

    #[test]
    fn defaults_follow_the_types() {
        let made = inputs("", "main (float[N, M, \"2*N\", 4] x, int64[8] i, bool b)").unwrap();
        assert_eq!(made["x"].dims(), [2, 3, 4, 4]);
        let x = made["x"].as_slice::<f32>().unwrap();
        assert!(x.iter().all(|v| (-1.0..1.0).contains(v)) && x.iter().any(|v| *v < -0.5));
        let i = made["i"].to_i64s().unwrap();
        assert!(i.iter().all(|v| (0..4).contains(v)));
        assert_eq!(made["b"].dtype(), DType::Bool);
        assert_eq!(
            made,
            inputs("", "main (float[N, M, \"2*N\", 4] x, int64[8] i, bool b)").unwrap()
        );
    }

    #[test]
    fn directives_win() {
        let made = inputs(
            "dims: N = 5\ninputs: y = {1, 2}, float[2] z = fill(0.5), x = uniform(3, 4)",
            "main (float[N] x, int64[2] y, float[] z)",
        )
        .unwrap();
        assert_eq!(made["x"].dims(), [5]);
        assert!(
            made["x"]
                .as_slice::<f32>()
                .unwrap()
                .iter()
                .all(|&v| v >= 3.0)
        );
        assert_eq!(made["y"], Tensor::vector(vec![1i64, 2]));
        assert_eq!(made["z"], Tensor::vector(vec![0.5f32, 0.5]));
    }

    #[test]
    fn mistakes_are_named() {
        let refused = |directive: &str| inputs(directive, "main (float[2] x)").unwrap_err();
        assert!(refused("inputs: z = {1}").contains("no input 'z'"));
        assert!(refused("inputs: x = {1}").contains("input 'x'"));
        assert!(refused("inputs: x = normal(0, 1)").contains("expected uniform"));
    }

    #[test]
    fn inputs_with_a_default_are_left_out() {
        let text = "main (float[2] x, float[2] w) => () <float[2] w = {1, 2}> {}";
        let model = Model::from_def(text::parse(text, &()).unwrap()).unwrap();
        let made = generate(&model.graph, &Case::default()).unwrap();
        assert_eq!(made.keys().collect::<Vec<_>>(), ["x"]);
    }
}
