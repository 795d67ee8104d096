//! Computes in codes what ONNX Runtime has operators of its own for.
//!
//! ```text
//! y = QuantizeLinear(Add(DequantizeLinear(a, ...), DequantizeLinear(b, ...)), ...)
//! =>
//! y = com.microsoft.QLinearAdd(a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero)
//! ```
//!
//! and so for the operators of [`LOWERED`]; with `contrib-ops` only, since no other runtime knows
//! them. Codes have 8 bits and one type, parameters are constant with one scale.
//!
//! Does not fire where the result has another use, operand and result differ in type, or the
//! operator has an attribute that the other one lacks. QLinearReduceMean has no kernel on
//! processors.

use onnxq_ir::{Model, NodeId, Op, ValueId};
use onnxq_pass::{Pass, PassContext, PassError, PassInfo, Rewriter, Rule, apply_rewrites};

use super::{
    lower_matmul::{CONTRIB_OPS, import},
    pattern::MICROSOFT,
    product,
    qdq::{self, Dequantized},
};

pub(crate) const INFO: PassInfo = PassInfo {
    name: "lower-qlinear-contrib",
    summary: "with contrib-ops, compute in codes (QLinearAdd, QLinearConcat, ...)",
    options: &[CONTRIB_OPS, product::COMPAT],
    build: |opts| {
        Ok(Box::new(LowerContrib {
            contrib_ops: opts.take("contrib-ops", false)?,
            compat: opts.take("compat", false)?,
        }))
    },
};

struct LowerContrib {
    contrib_ops: bool,
    compat: bool,
}

impl Pass for LowerContrib {
    fn name(&self) -> &str {
        INFO.name
    }

    fn run(&mut self, model: &mut Model, cx: &mut PassContext) -> Result<(), PassError> {
        if !self.contrib_ops {
            return Ok(());
        }
        let lower = |rw: &mut Rewriter<'_>, n| lower(rw, n, self.compat);
        let rule = Rule {
            name: INFO.name,
            apply: &lower,
        };
        apply_rewrites(model, cx, &[rule])?;
        import(model);
        Ok(())
    }
}

/// An operator, and the one that computes the same in codes.
struct Lowered {
    from: &'static str,
    to: &'static str,
    form: Form,
    /// The attributes that both have.
    attrs: &'static [&'static str],
    /// Sets the attributes that only the second has, for a version of the operator set.
    complete: fn(&mut Op, i64),
}

/// The order of operands.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    /// Each operand with its parameters, then those of the result.
    InOrder,
    /// The parameters of the result, then each operand with its own.
    ResultFirst,
    /// A first operand as it is, then as in order.
    AfterCondition,
}

const NOTHING: fn(&mut Op, i64) = |_, _| {};

const fn lowered(from: &'static str, to: &'static str, attrs: &'static [&'static str]) -> Lowered {
    Lowered {
        from,
        to,
        form: Form::InOrder,
        attrs,
        complete: NOTHING,
    }
}

const LOWERED: &[Lowered] = &[
    lowered("Add", "QLinearAdd", &[]),
    lowered("Mul", "QLinearMul", &[]),
    lowered("Sigmoid", "QLinearSigmoid", &[]),
    lowered("LeakyRelu", "QLinearLeakyRelu", &["alpha"]),
    lowered(
        "AveragePool",
        "QLinearAveragePool",
        &[
            "auto_pad",
            "ceil_mode",
            "count_include_pad",
            "kernel_shape",
            "pads",
            "strides",
        ],
    ),
    Lowered {
        complete: |op, _| set(op, "channels_last", 0),
        ..lowered("GlobalAveragePool", "QLinearGlobalAveragePool", &[])
    },
    Lowered {
        // Before opset 13 it flattens to a matrix from axis 1, which the operator does as told.
        complete: |op, opset| {
            let axis = op.int("axis", if opset < 13 { 1 } else { -1 });
            set(op, "axis", axis);
            set(op, "opset", opset);
        },
        ..lowered("Softmax", "QLinearSoftmax", &["axis"])
    },
    Lowered {
        form: Form::ResultFirst,
        ..lowered("Concat", "QLinearConcat", &["axis"])
    },
    Lowered {
        form: Form::AfterCondition,
        ..lowered("Where", "QLinearWhere", &[])
    },
];

fn set(op: &mut Op, key: &str, value: i64) {
    op.attrs.insert(key.to_owned(), value.into());
}

fn lower(rw: &mut Rewriter<'_>, n: NodeId, compat: bool) -> Option<()> {
    let op = rw.op(n).filter(|op| op.domain.is_empty())?;
    let record = LOWERED.iter().find(|l| l.from == op.op_type)?;
    let Some(q) = qdq::quantized(rw, rw.result(n, 0)) else {
        return rw.miss(n, "the result is not only quantized");
    };
    let given = rw.graph().operands(n);
    let first = usize::from(record.form == Form::AfterCondition);
    let data: Option<Vec<Dequantized>> = given[first..]
        .iter()
        .map(|&v: &Option<ValueId>| qdq::dequantized(rw, v?))
        .collect();
    let data = data?;
    let fits = |d: &Dequantized| d.params.is_plain_scalar() && d.params.qtype == q.params.qtype;
    if !q.params.is_plain_scalar() || !data.iter().all(fits) {
        return rw.miss(n, "operands and result are not all in 8 bits of one type");
    }
    let old = rw.op(n)?;
    let known = |key: &String| record.attrs.contains(&key.as_str());
    let mut op = Op {
        attrs: old.attrs.clone(),
        ..Op::in_domain(MICROSOFT, record.to)
    };
    // Dilations of 1 are those of an operator that has none.
    let ones = |key: &&String| {
        *key == "dilations" && op.ints(key).is_some_and(|d| d.iter().all(|&d| d == 1))
    };
    let dilations = op.attrs.keys().find(ones).cloned();
    if let Some(key) = dilations {
        op.attrs.shift_remove(&key);
    }
    if !op.attrs.keys().all(known) {
        return rw.miss(n, format!("{} lacks an attribute", record.to));
    }
    (record.complete)(&mut op, rw.opset());
    let mut operands: Vec<Option<ValueId>> = given[..first].to_vec();
    let result = q.params.operands(rw);
    if record.form == Form::ResultFirst {
        operands.extend(result);
    }
    for d in data {
        operands.push(Some(d.codes));
        operands.extend(d.params.operands(rw));
    }
    if record.form != Form::ResultFirst {
        operands.extend(result);
    }
    qdq::replace(rw, (n, q.node), op, &operands, compat)
}
