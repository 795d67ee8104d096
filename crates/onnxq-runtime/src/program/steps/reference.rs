//! What has no kernel, as the reference evaluates it.

use std::sync::Arc;

use onnxq_ir::{Model, NodeId, Op};
use onnxq_kernels::Cpu;
use onnxq_ops::{
    EvalError, Value,
    interpret::{Interpreter, at_node},
};
use onnxq_tensor::{Buffer, DType, Dims, Tensor};

use super::Kernel;
use crate::program::call::Call;

/// Element type and dimensions.
type Described = (DType, Dims);

/// A node that the interpreter evaluates.
pub(in crate::program) struct Reference {
    model: Arc<Model>,
    node: NodeId,
    op: Op,
    operands: Vec<Option<Described>>,
    /// Those that anyone wants.
    results: Vec<Option<Described>>,
}

impl Reference {
    pub(in crate::program) fn new(
        model: &Arc<Model>,
        node: NodeId,
        op: &Op,
        operands: Vec<Option<Described>>,
        results: Vec<Option<Described>>,
    ) -> Reference {
        Reference {
            model: model.clone(),
            node,
            op: op.clone(),
            operands,
            results,
        }
    }
}

impl Kernel for Reference {
    fn name(&self, _: Cpu) -> String {
        format!("reference {}", self.op.qualified())
    }

    fn by_reference(&self) -> bool {
        true
    }

    fn run(&self, call: &mut Call<'_>) -> Result<(), EvalError> {
        let mut operands = Vec::new();
        let mut at = 0;
        for described in &self.operands {
            operands.push(match described {
                None => None,
                Some((dtype, dims)) => {
                    at += 1;
                    Some(Value::Tensor(tensor(*dtype, dims, call.bytes(at - 1))?))
                }
            });
        }
        let node = self.model.graph.node(self.node);
        let interpreter = Interpreter::new(&self.model);
        let results = interpreter
            .run_node(&self.op, &operands, self.results.len())
            .map_err(|e| at_node(node, e))?;
        let mut at = 0;
        for (value, described) in results.iter().zip(&self.results) {
            let Some((dtype, dims)) = described else {
                continue;
            };
            let found = value.as_tensor();
            let found = found.filter(|t| t.dtype() == *dtype && t.dims() == &dims[..]);
            let Some(found) = found else {
                let e = EvalError::Unsupported(format!("a result other than {dtype:?} {dims:?}"));
                return Err(at_node(node, e));
            };
            call.result(at)[..found.bytes().len()].copy_from_slice(found.bytes());
            at += 1;
        }
        Ok(())
    }
}

/// The first bytes as a tensor of its own.
pub(super) fn tensor(dtype: DType, dims: &Dims, bytes: &[u8]) -> Result<Tensor, EvalError> {
    let len = dtype
        .byte_len(onnxq_tensor::element_count(dims)?)
        .unwrap_or(0);
    let mut words = vec![0u64; len.div_ceil(8)];
    bytemuck::cast_slice_mut(&mut words)[..len].copy_from_slice(&bytes[..len]);
    Ok(Tensor::new(
        dtype,
        dims.clone(),
        Buffer::from_vec(words).slice(0..len),
    )?)
}
