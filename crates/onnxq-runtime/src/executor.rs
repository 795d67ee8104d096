//! The reference executor.

use onnxq_ir::{Graph, Model, NodeId, Type, ValueId};
use onnxq_ops::{
    EvalError, Value,
    interpret::{Interceptor, Interpreter},
};
use onnxq_tensor::Tensor;

/// Why a model has no outputs for some inputs.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum RunError {
    #[error("input '{0}' is missing")]
    Missing(String),
    #[error("{found} inputs given, the model has {expected}")]
    Count { expected: usize, found: usize },
    #[error("input '{input}' is {found}, expected {expected}")]
    Input {
        input: String,
        found: String,
        expected: String,
    },
    #[error("output '{0}' is not a tensor")]
    Output(String),
    #[error(transparent)]
    Eval(#[from] EvalError),
}

/// Evaluates a model node by node.
#[derive(Clone, Copy)]
pub struct Executor<'a> {
    model: &'a Model,
}

impl<'a> Executor<'a> {
    /// An executor for `model`.
    pub fn new(model: &'a Model) -> Executor<'a> {
        Executor { model }
    }

    /// The outputs for one sample: a tensor for each input, in the order of the graph; one that
    /// has a default may be `None`.
    ///
    /// # Errors
    /// An input that is missing or does not fit; a node that fails, by name.
    pub fn run(&self, inputs: &[Option<Tensor>]) -> Result<Vec<Tensor>, RunError> {
        self.run_observed(inputs, &|_, _, _| {})
    }

    /// The same, with `observe` called for every value of the main graph as it is produced.
    ///
    /// # Errors
    /// As [`run`](Executor::run).
    pub fn run_observed(
        &self,
        inputs: &[Option<Tensor>],
        observe: &dyn Fn(&Graph, ValueId, &Value),
    ) -> Result<Vec<Tensor>, RunError> {
        self.run_with(inputs, Interpreter::new(self.model).observed(observe))
    }

    /// The same, with `intercept` called for the results of every node, in regions too, which may
    /// put others in their place.
    ///
    /// # Errors
    /// As [`run`](Executor::run).
    pub fn run_intercepted(
        &self,
        inputs: &[Option<Tensor>],
        intercept: &Interceptor<'_>,
    ) -> Result<Vec<Tensor>, RunError> {
        self.run_with(inputs, Interpreter::new(self.model).intercepted(intercept))
    }

    fn run_with(
        &self,
        inputs: &[Option<Tensor>],
        interpreter: Interpreter<'_>,
    ) -> Result<Vec<Tensor>, RunError> {
        let graph = &self.model.graph;
        check_inputs(graph, inputs)?;
        let inputs = inputs
            .iter()
            .map(|t| t.clone().map(Value::Tensor))
            .collect();
        let outputs = interpreter.run(graph, inputs)?;
        let tensor = |(value, output): (Value, &onnxq_ir::def::ValueDef)| match value {
            Value::Tensor(t) => Ok(t),
            _ => Err(RunError::Output(output.name.clone())),
        };
        outputs
            .into_iter()
            .zip(&graph.outputs)
            .map(tensor)
            .collect()
    }
}

/// Whether `inputs` are as many as `graph` has, and of the types it declares.
pub(crate) fn check_inputs(graph: &Graph, inputs: &[Option<Tensor>]) -> Result<(), RunError> {
    let expected = graph.inputs().len();
    if inputs.len() != expected {
        return Err(RunError::Count {
            expected,
            found: inputs.len(),
        });
    }
    for (&n, input) in graph.inputs().iter().zip(inputs) {
        check_input(graph, n, input.as_ref())?;
    }
    Ok(())
}

fn check_input(graph: &Graph, n: NodeId, input: Option<&Tensor>) -> Result<(), RunError> {
    let node = graph.node(n);
    let value = &node.results[0];
    let Some(tensor) = input else {
        let has_default = node.is_constant();
        return if has_default {
            Ok(())
        } else {
            Err(RunError::Missing(value.name.clone()))
        };
    };
    let Some(Type::Tensor(expected)) = &value.ty else {
        return Ok(());
    };
    let dtype_fits = expected.dtype.is_none_or(|d| d == tensor.dtype());
    let shape_fits = expected.shape.as_ref().is_none_or(|shape| {
        shape.len() == tensor.rank()
            && shape
                .iter()
                .zip(tensor.dims())
                .all(|(s, &d)| s.as_const().is_none_or(|s| s == d as i64))
    });
    if dtype_fits && shape_fits {
        return Ok(());
    }
    let dims = expected.shape.as_ref().map(|shape| {
        let dims: Vec<String> = shape.iter().map(ToString::to_string).collect();
        format!("[{}]", dims.join(", "))
    });
    Err(RunError::Input {
        input: value.name.clone(),
        found: format!("{tensor:?}"),
        expected: format!(
            "{}{}",
            expected.dtype.map_or("?", |d| d.name()),
            dims.unwrap_or_default()
        ),
    })
}
