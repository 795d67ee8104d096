//! The target of a `Reshape`, where all but one dimension are constant or those of the operand.

use onnxq_ir::{Graph, NodeId};
use onnxq_pass::describe;
use onnxq_tensor::{Dim, Tensor};

use super::{Folder, Known};
use crate::preprocess::graft::release;

impl Folder<'_> {
    /// `Reshape(x, Concat(Shape(x)[0], 12, -1))` => `Reshape(x, {0, 12, -1})`
    ///
    /// Not where two dimensions would have to be found from the rest, or one beside a dimension of
    /// the operand, which may be empty.
    pub(super) fn fold_target(&mut self, graph: &mut Graph, n: NodeId, known: &Known<'_>) {
        if let Some(target) = target(graph, n, known)
            && self.cx.begin_rewrite("fold-target", describe(graph, n))
        {
            let old = graph.operand(n, 1);
            let name = graph.value(graph.result(n, 0)).name.clone();
            let constant = graph.add_constant(format!("{name}_shape"), Tensor::vector(target));
            graph.set_operand(n, 1, Some(constant));
            if let Some(old) = old {
                release(graph, old.node);
            }
            self.folded = true;
        }
    }
}

fn target(graph: &Graph, n: NodeId, known: &Known<'_>) -> Option<Vec<i64>> {
    let op = graph.op(n).filter(|op| op.is("Reshape"))?;
    let (x, target) = (graph.operand(n, 0)?, graph.operand(n, 1)?);
    let wanted = known.fact(target).value.as_ref()?;
    if graph.tensor(target).is_some() || wanted.as_consts().is_some() || op.int("allowzero", 0) != 0
    {
        return None;
    }
    let shape = known.fact(x).shape();
    let (mut inferred, mut found) = (false, false);
    let mut dims = Vec::with_capacity(wanted.elems.len());
    for (i, dim) in wanted.elems.iter().enumerate() {
        let kept = |d: &Dim| d == dim && !dim.is_unknown();
        let dim = match dim.as_const() {
            Some(d) => d,
            // A 0 takes the dimension of the operand.
            None if shape.and_then(|s| s.get(i)).is_some_and(kept) => 0,
            None => {
                found = true;
                -1
            }
        };
        if dim == -1 && std::mem::replace(&mut inferred, true) {
            return None;
        }
        dims.push(dim);
    }
    // A -1 cannot be found where a dimension that is copied is empty.
    (!found || !dims.contains(&0)).then_some(dims)
}
