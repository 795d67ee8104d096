//! Operators on floats, by the kernels that plans without shapes have too.

use onnxq_ir::{NodeId, Op, ValueId};
use onnxq_kernels::Cpu;
use onnxq_ops::EvalError;
use onnxq_tensor::{DType, Dims, Tensor};
use smallvec::SmallVec;

use super::Kernel;
use crate::{
    plan::{self, Data, Epilogue, Floats, Known, NodeContext},
    program::{
        call::Call,
        lower::{Layout, Lowering},
    },
};

impl Known for Lowering<'_> {
    fn tensor(&self, v: ValueId) -> Option<&Tensor> {
        self.constant(v)
    }
}

/// A node of floats.
struct Float {
    op: String,
    kernel: Box<dyn plan::Kernel>,
    /// `None` for operands left out.
    operands: SmallVec<[Option<Operand>; 4]>,
    result: Dims,
    node: String,
}

/// Dimensions, and the tensor if it is constant.
type Operand = (Dims, Option<Tensor>);

/// A node of floats with one result.
pub(super) fn lower(lowering: &mut Lowering<'_>, n: NodeId, op: &Op) -> Option<()> {
    let graph = lowering.graph;
    if !op.domain.is_empty() || graph.node(n).results.len() != 1 {
        return None;
    }
    let (dtype, result) = lowering.type_of(graph.result(n, 0))?;
    (dtype == DType::F32).then_some(())?;
    let opset = lowering.model.opsets.get("").copied().unwrap_or(1);
    let cx = NodeContext {
        graph,
        node: n,
        op,
        opset,
        known: lowering,
        epilogue: Epilogue::default(),
    };
    let kernel = plan::kernel(&cx)?;
    let mut operands = SmallVec::new();
    let mut places = SmallVec::<[_; 4]>::new();
    for v in graph.operands(n) {
        let Some(v) = v else {
            operands.push(None);
            continue;
        };
        let home = lowering.plain(v)?;
        let constant = lowering.constant(v).cloned();
        match &constant {
            // Of what is read before any run, any type.
            Some(_) => {}
            None => (home.dtype == DType::F32).then_some(())?,
        }
        if constant.is_none() {
            places.push(home.place);
        }
        operands.push(Some((
            home.dims,
            constant.map(|t| super::super::aligned(&t)),
        )));
    }
    let kernel = Float {
        op: op.qualified(),
        kernel,
        operands,
        result,
        node: lowering.name(n),
    };
    lowering.push_node(n, Box::new(kernel), &places, Layout::Plain)
}

impl Kernel for Float {
    fn name(&self, _: Cpu) -> String {
        format!("float {}", self.op)
    }

    fn run(&self, call: &mut Call<'_>) -> Result<(), EvalError> {
        let mut at = 0;
        let mut operands: SmallVec<[Option<Data>; 4]> = SmallVec::new();
        for operand in &self.operands {
            operands.push(match operand {
                None => None,
                Some((_, Some(tensor))) => Some(Data::Value(tensor.clone().into())),
                Some((dims, None)) => {
                    let len = dims.iter().product();
                    let mut memory = call.pool.take(len).unwrap_or_else(|| vec![0.0; len]);
                    memory[..len].copy_from_slice(&call.floats(at)[..len]);
                    at += 1;
                    Some(Data::Floats(Floats::new(memory, dims.clone())))
                }
            });
        }
        let made = self.kernel.run(&mut operands, call.pool);
        for operand in operands.into_iter().flatten() {
            call.pool.end(operand);
        }
        let Some(made) = made.filter(|made| made.dims == self.result) else {
            return Err(EvalError::Unsupported(format!(
                "operands of {} ({})",
                self.node, self.op
            )));
        };
        call.result_floats(0)[..made.elements().len()].copy_from_slice(made.elements());
        call.pool.end(Data::Floats(made));
        Ok(())
    }
}
