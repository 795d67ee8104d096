//! Operators and operands written as text, for tables of cases.

#![allow(dead_code, reason = "no test uses all of it")]

use onnxq_ir::{Attr, Graph, Op};
use onnxq_ops::{EvalContext, EvalError, Value};
use onnxq_tensor::{DType, Tensor};

/// Reads `type[dims]=values`; values that are not given are ones.
pub(crate) fn read_operand(text: &str) -> Option<Tensor> {
    let (ty, rest) = text.split_once('[')?;
    let (dims, values) = rest.split_once(']')?;
    let numbers = |text: &str| -> Vec<f32> {
        let parts = text.split(',').filter(|p| !p.is_empty());
        parts.map(|p| p.parse().expect("a number")).collect()
    };
    let dims: Vec<usize> = numbers(dims).into_iter().map(|d| d as usize).collect();
    let count = dims.iter().product();
    let values = match values.strip_prefix('=') {
        Some(values) => numbers(values),
        None => vec![1.0; count],
    };
    let dtype = match ty {
        "f" => DType::F32,
        "u8" => DType::U8,
        "i8" => DType::I8,
        "i4" => DType::I4,
        "i32" => DType::I32,
        "i64" => DType::I64,
        _ => DType::Bool,
    };
    Some(Tensor::from_f32s(dtype, dims, values).expect("a tensor that fits"))
}

/// Reads `domain.name`, and attributes as `key=value` with spaces between.
pub(crate) fn read_op(name: &str, attrs: &str) -> Op {
    let (domain, name) = name.rsplit_once('.').unwrap_or(("", name));
    let mut op = Op::in_domain(domain, name);
    let lists = "kernel_shape strides pads dilations axes output_shape output_padding";
    for (key, value) in attrs.split_whitespace().filter_map(|a| a.split_once('=')) {
        let numbers: Option<Vec<i64>> = value.split(',').map(|n| n.parse().ok()).collect();
        let attr = match numbers {
            Some(numbers) if key == "scales" => {
                Attr::Floats(numbers.into_iter().map(|n| n as f32).collect())
            }
            Some(numbers) if lists.split(' ').any(|l| l == key) => Attr::Ints(numbers),
            Some(numbers) => Attr::Int(numbers[0]),
            None => Attr::string(value),
        };
        op = op.with(key, attr);
    }
    op
}

/// The results of one operation.
pub(crate) fn evaluate(
    op: &Op,
    opset: i64,
    operands: &[Option<Tensor>],
    results: usize,
) -> Result<Vec<Value>, EvalError> {
    let operator = onnxq_ops::lookup(&op.domain, &op.op_type).expect("a known operator");
    let values: Vec<Option<Value>> = operands
        .iter()
        .map(|t| t.clone().map(Value::Tensor))
        .collect();
    let region = |_: &Graph, _: Vec<Value>| -> Result<Vec<Value>, EvalError> {
        Err(EvalError::Unsupported("regions".to_owned()))
    };
    let cx = EvalContext::new(op, opset, &values, results, &region);
    operator.eval(&cx)
}
