//! Operators on floats, by the kernels that plans without shapes have too.

use std::sync::Arc;

use onnxq_ir::{Model, NodeId, Op, ValueId};
use onnxq_kernels::Cpu;
use onnxq_ops::{
    EvalError, Value,
    interpret::{Interpreter, at_node},
};
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
    model: Arc<Model>,
    node: NodeId,
    op: Op,
    kernel: Box<dyn plan::Kernel>,
    /// `None` for operands left out.
    operands: SmallVec<[Option<Operand>; 4]>,
    result: Dims,
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
        model: lowering.model.clone(),
        node: n,
        op: op.clone(),
        kernel,
        operands,
        result,
    };
    lowering.push_node(n, Box::new(kernel), &places, Layout::Plain)
}

impl Kernel for Float {
    fn name(&self, _: Cpu) -> String {
        format!("float {}", self.op.qualified())
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
        let Some(made) = made.filter(|made| made.dims == self.result) else {
            return self.evaluate(&operands, call);
        };
        for operand in operands.into_iter().flatten() {
            call.pool.end(operand);
        }
        call.result_floats(0)[..made.elements().len()].copy_from_slice(made.elements());
        call.pool.end(Data::Floats(made));
        Ok(())
    }
}

impl Float {
    /// The result by the reference, of operands that the kernel is not made for.
    fn evaluate(&self, operands: &[Option<Data>], call: &mut Call<'_>) -> Result<(), EvalError> {
        let value = |data: &Option<Data>| data.as_ref().map(Data::value).transpose();
        let operands: Vec<Option<Value>> = operands.iter().map(value).collect::<Result<_, _>>()?;
        let node = self.model.graph.node(self.node);
        let results = Interpreter::new(&self.model)
            .run_node(&self.op, &operands, 1)
            .map_err(|e| at_node(node, e))?;
        let found = results.first().and_then(Value::as_tensor);
        let fits = |t: &&Tensor| t.dtype() == DType::F32 && t.dims() == &self.result[..];
        let Some(found) = found.filter(fits) else {
            let e = EvalError::Unsupported(format!("a result other than {:?}", self.result));
            return Err(at_node(node, e));
        };
        call.result(0)[..found.bytes().len()].copy_from_slice(found.bytes());
        Ok(())
    }
}
