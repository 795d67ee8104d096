//! Which values of a model's graphs have a name that is to be observed.

use std::collections::HashMap;

use indexmap::IndexMap;
use onnxq_ir::{Graph, Model, ValueId, deep};
use onnxq_passes::feature_axis;
use onnxq_quant::{Method, Observers, TensorObserver};
use onnxq_tensor::DType;

/// Calls `visit` for each value of the main graph and of the regions in it that is no constant: in
/// graph order, a region before the results of its node. What a region captures is a value of the
/// graph around it and is visited there only.
fn for_each_value(graph: &Graph, captures: usize, visit: &mut dyn FnMut(&Graph, ValueId)) {
    deep(|| {
        let own = graph.inputs().len().saturating_sub(captures);
        for &n in &graph.inputs()[..own] {
            visit(graph, graph.result(n, 0));
        }
        for n in graph.op_order() {
            let Some(op) = graph.op(n) else { continue };
            for (_, region) in op.regions() {
                for_each_value(region, op.captures, visit);
            }
            for i in 0..graph.node(n).results.len() {
                visit(graph, graph.result(n, i));
            }
        }
    });
}

/// Whether a value may be a tensor of floats, as far as its type is known.
fn may_be_float(graph: &Graph, v: ValueId) -> bool {
    let dtype = graph.ty(v).and_then(|ty| ty.dtype());
    dtype.is_none_or(is_float)
}

/// Whether there are ranges of such elements.
pub(super) fn is_float(dtype: DType) -> bool {
    matches!(dtype, DType::F16 | DType::BF16 | DType::F32 | DType::F64)
}

/// All tensors of floats in the main graph of `model` and in the bodies of its If, Loop and Scan
/// nodes, in graph order, by name; constants are none of them, and those whose type is not known
/// are. Inputs whose channels are worth knowing one by one come with the axis of these.
pub fn float_tensors(model: &Model, method: &Method) -> IndexMap<String, Option<i64>> {
    let mut tensors = IndexMap::new();
    for_each_value(&model.graph, 0, &mut |graph, v| {
        let name = &graph.value(v).name;
        if !name.is_empty() && may_be_float(graph, v) && !tensors.contains_key(name) {
            tensors.insert(name.clone(), feature_axis(graph, v, method));
        }
    });
    tensors
}

/// The observers of a model's values. Graphs are told apart by their revision, which equal ones
/// share.
pub(super) struct Observed<'a> {
    values: HashMap<(u64, ValueId), (&'a str, &'a TensorObserver)>,
}

impl<'a> Observed<'a> {
    /// Finds the values of `model` that `observers` has the names of.
    pub(super) fn new(model: &Model, observers: &'a Observers) -> Observed<'a> {
        let named: HashMap<&str, &TensorObserver> = observers.iter().collect();
        let mut values = HashMap::new();
        for_each_value(&model.graph, 0, &mut |graph, v| {
            let name = graph.value(v).name.as_str();
            if may_be_float(graph, v)
                && let Some((&name, &observer)) = named.get_key_value(name)
            {
                values.insert((graph.revision(), v), (name, observer));
            }
        });
        Observed { values }
    }

    /// Name and observer of a value, if it has one.
    pub(super) fn get(&self, graph: &Graph, v: ValueId) -> Option<(&'a str, &'a TensorObserver)> {
        self.values.get(&(graph.revision(), v)).copied()
    }
}
