//! Bringing a model to a later opset, or to an earlier one.
//!
//! Each node whose schema changed between the two opsets is handed to its operator's
//! [`upgrade`](crate::Operator::upgrade); on the way back, to `downgrade.rs`. Rules may use the
//! types on values, so inference comes first. Either every node is converted, or the model is left
//! as it was and all nodes that are in the way are named.

mod downgrade;
mod schema;

use onnxq_ir::{Graph, Model, NodeId, Op, Value, ValueId};
use onnxq_tensor::Tensor;

use crate::lookup;

/// Why a node cannot be brought to a later opset.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct UpgradeError(pub String);

impl UpgradeError {
    /// A reason, in words.
    pub fn new(reason: impl Into<String>) -> UpgradeError {
        UpgradeError(reason.into())
    }
}

/// A node being brought to a later opset.
pub struct UpgradeContext<'a> {
    /// The graph it is in.
    pub graph: &'a mut Graph,
    /// The node.
    pub node: NodeId,
    from: i64,
    to: i64,
}

impl UpgradeContext<'_> {
    /// The opset the node is of.
    pub fn from(&self) -> i64 {
        self.from
    }

    /// The opset it shall be of.
    pub fn to(&self) -> i64 {
        self.to
    }

    /// Whether the change made at `opset` lies between the two.
    pub fn crosses(&self, opset: i64) -> bool {
        self.from < opset && opset <= self.to
    }

    /// Whether the change made at `opset` is undone between the two.
    pub fn uncrosses(&self, opset: i64) -> bool {
        self.to < opset && opset <= self.from
    }

    /// The operation.
    pub fn op(&self) -> &Op {
        self.graph
            .op(self.node)
            .expect("the driver hands over operations")
    }

    /// The operation, to change.
    pub fn op_mut(&mut self) -> &mut Op {
        self.graph
            .op_mut(self.node)
            .expect("the driver hands over operations")
    }

    /// Operand `i`.
    pub fn operand(&self, i: usize) -> Option<ValueId> {
        self.graph.operand(self.node, i)
    }

    /// The known rank of operand `i`.
    pub fn rank(&self, i: usize) -> Option<usize> {
        Some(self.graph.ty(self.operand(i)?)?.shape()?.len())
    }

    /// Makes a constant the operand `i`. Its name derives from the node's result.
    pub fn set_constant(&mut self, i: usize, what: &str, tensor: Tensor) {
        let name = self.derived(what);
        let v = self.graph.add_constant(name, tensor);
        self.graph.set_operand(self.node, i, Some(v));
    }

    /// Turns the integers of attribute `key`, where given, into operand `i`.
    pub fn ints_to_operand(&mut self, key: &str, i: usize) {
        if let Some(onnxq_ir::Attr::Ints(v)) = self.op_mut().attrs.shift_remove(key) {
            self.set_constant(i, key, Tensor::vector(v));
        }
    }

    /// Puts an operation between operand `i` and the node.
    pub fn wrap_operand(&mut self, i: usize, op: Op, more: &[ValueId], what: &str) {
        let Some(x) = self.operand(i) else { return };
        let name = self.derived(what);
        let operands: Vec<ValueId> = [x].iter().chain(more).copied().collect();
        let v = self.graph.insert(op, &operands, name);
        self.graph.set_operand(self.node, i, Some(v));
    }

    /// Puts an operation between result `i` and its users. The users see a value of the old name.
    pub fn wrap_result(&mut self, i: usize, op: Op, more: &[ValueId], what: &str) {
        let old = self.graph.result(self.node, i);
        let value = self.graph.value(old).clone();
        let n = self.graph.add_node("", op, &[], [value.clone()]);
        let new = self.graph.result(n, 0);
        self.graph.replace_uses(old, new);
        let operands: Vec<Option<ValueId>> = [old].iter().chain(more).copied().map(Some).collect();
        self.graph.set_operands(n, &operands);
        *self.graph.value_mut(old) = Value::new(format!("{}_{what}", value.name), None);
    }

    /// A name for a new value: that of the first result, and `what`.
    pub fn derived(&self, what: &str) -> String {
        let results = &self.graph.node(self.node).results;
        format!("{}_{what}", results.first().map_or("", |v| v.name.as_str()))
    }
}

/// A node that cannot be converted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Obstacle {
    /// The graph, by name.
    pub graph: String,
    /// The node: its name or first result, and its operator.
    pub node: String,
    /// Why.
    pub reason: String,
}

/// Brings the standard domain of `model`, and of its functions, to opset `target`; a model or
/// function that is there or later is left alone. Returns whether anything changed.
///
/// # Errors
/// All nodes that cannot be converted; the model is unchanged then.
pub fn upgrade(model: &mut Model, target: i64) -> Result<bool, Vec<Obstacle>> {
    convert(model, target, |from| from < target)
}

/// Brings the standard domain of `model`, and of its functions, to the earlier opset `target`; a
/// model or function that is there or earlier is left alone. Returns whether anything changed.
///
/// # Errors
/// All nodes that cannot be converted; the model is unchanged then.
pub fn downgrade(model: &mut Model, target: i64) -> Result<bool, Vec<Obstacle>> {
    convert(model, target, |from| from > target)
}

fn convert(
    model: &mut Model,
    target: i64,
    is_behind: impl Fn(i64) -> bool,
) -> Result<bool, Vec<Obstacle>> {
    let mut converted = model.clone();
    let mut obstacles = Vec::new();
    let mut changed = false;
    if let Some(from) = model.opset("").filter(|&from| is_behind(from)) {
        changed = true;
        converted.graph.for_each_graph_mut(&mut |g: &mut Graph| {
            convert_graph(g, from, target, &mut obstacles);
        });
        converted.opsets.insert(String::new(), target);
        // An earlier opset may be written in a later version of the format.
        converted.ir_version = converted.ir_version.max(ir_version_for(target));
    }
    for function in converted.functions.values_mut() {
        let from = function.opsets.get("").copied();
        if let Some(from) = from.filter(|&from| is_behind(from)) {
            changed = true;
            function.graph.for_each_graph_mut(&mut |g: &mut Graph| {
                convert_graph(g, from, target, &mut obstacles);
            });
            function.opsets.insert(String::new(), target);
        }
    }
    if obstacles.is_empty() {
        *model = converted;
        Ok(changed)
    } else {
        Err(obstacles)
    }
}

fn convert_graph(graph: &mut Graph, from: i64, to: i64, obstacles: &mut Vec<Obstacle>) {
    for node in graph.op_order() {
        if graph.op(node).is_none_or(|op| !op.domain.is_empty()) {
            continue;
        }
        let mut cx = UpgradeContext {
            graph,
            node,
            from,
            to,
        };
        let outcome = match from < to {
            true => upgrade_node(&mut cx),
            false => downgrade::downgrade(&mut cx),
        };
        if let Err(UpgradeError(reason)) = outcome {
            obstacles.push(obstacle(graph, node, reason));
        }
    }
}

fn upgrade_node(cx: &mut UpgradeContext<'_>) -> Result<(), UpgradeError> {
    match lookup("", &cx.op().op_type) {
        Some(operator) if operator.since().iter().any(|&s| cx.crosses(s)) => operator.upgrade(cx),
        _ => Ok(()),
    }
}

fn obstacle(graph: &Graph, node: NodeId, reason: String) -> Obstacle {
    let node = graph.node(node);
    let name = match node.name.as_str() {
        "" => node.results.first().map_or("", |v| v.name.as_str()),
        name => name,
    };
    let op = node.op().map_or("", |op| op.op_type.as_str());
    Obstacle {
        graph: graph.name.clone(),
        node: format!("'{name}' ({op})"),
        reason,
    }
}

/// The version of the file format that came out with an opset of the standard domain
/// (`onnx.helper.VERSION_TABLE`).
pub fn ir_version_for(opset: i64) -> i64 {
    match opset {
        ..=8 => 3,
        9 => 4,
        10 => 5,
        11 => 6,
        12..=14 => 7,
        15..=18 => 8,
        19..=20 => 9,
        21..=22 => 10,
        23 => 11,
        24 => 12,
        25..=27 => 13,
        _ => 14,
    }
}
