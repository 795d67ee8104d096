//! Values at run time, and what an operator sees when it is evaluated.

use std::sync::Arc;

use onnxq_ir as ir;
use onnxq_tensor::{DType, Element, Tensor, TensorError};

/// A value at run time.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    /// A tensor.
    Tensor(Tensor),
    /// A sequence.
    Sequence(Arc<Vec<Value>>),
    /// An optional value.
    Optional(Option<Arc<Value>>),
}

impl Value {
    /// The tensor, if it is one.
    pub fn as_tensor(&self) -> Option<&Tensor> {
        match self {
            Value::Tensor(t) => Some(t),
            _ => None,
        }
    }
}

impl From<Tensor> for Value {
    fn from(t: Tensor) -> Value {
        Value::Tensor(t)
    }
}

/// Why a node has no result. The interpreter adds which node.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum EvalError {
    #[error("{0} is not implemented")]
    Unsupported(String),
    #[error("operand {index} is missing")]
    Missing { index: usize },
    #[error("operand {index}: {message}")]
    Operand { index: usize, message: String },
    #[error("{0}")]
    Invalid(String),
    #[error("the result would have {0:?} elements, more than the limit")]
    TooLarge(Vec<usize>),
    #[error("evaluation takes more work than it was given")]
    OutOfFuel,
    #[error(transparent)]
    Tensor(#[from] TensorError),
    #[error("node {node}: {source}")]
    At {
        node: String,
        #[source]
        source: Box<EvalError>,
    },
}

/// Runs a region on its inputs (captures included, last).
pub type RunRegion<'a> = dyn Fn(&ir::Graph, Vec<Value>) -> Result<Vec<Value>, EvalError> + 'a;

/// What an operator sees when it is evaluated.
pub struct EvalContext<'a> {
    op: &'a ir::Op,
    opset: i64,
    operands: &'a [Option<Value>],
    results: usize,
    region: &'a RunRegion<'a>,
    is_run: bool,
}

impl<'a> EvalContext<'a> {
    /// A context for `op` at `opset` of its domain. `operands` include captures; `results` is how
    /// many the node has.
    pub fn new(
        op: &'a ir::Op,
        opset: i64,
        operands: &'a [Option<Value>],
        results: usize,
        region: &'a RunRegion<'a>,
    ) -> EvalContext<'a> {
        EvalContext {
            op,
            opset,
            operands,
            results,
            region,
            is_run: false,
        }
    }

    /// The same, for a node of a model that is run: random numbers may be drawn.
    #[must_use]
    pub fn in_run(self) -> EvalContext<'a> {
        EvalContext {
            is_run: true,
            ..self
        }
    }

    /// Whether this is a run, and not the computation of a constant.
    pub fn is_run(&self) -> bool {
        self.is_run
    }

    /// The operation, for its attributes.
    pub fn op(&self) -> &'a ir::Op {
        self.op
    }

    /// The opset of the operator's domain.
    pub fn opset(&self) -> i64 {
        self.opset
    }

    /// The number of operands, those left out included, captures not.
    pub fn len(&self) -> usize {
        self.operands.len().saturating_sub(self.op.captures)
    }

    /// Whether there are no operands.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many results the node has.
    pub fn results(&self) -> usize {
        self.results
    }

    /// The operand `i`, unless left out.
    pub fn value(&self, i: usize) -> Option<&'a Value> {
        self.operands[..self.len()].get(i)?.as_ref()
    }

    /// The tensor that is operand `i`.
    ///
    /// # Errors
    /// It is left out, or not a tensor.
    pub fn tensor(&self, i: usize) -> Result<&'a Tensor, EvalError> {
        match self.value(i) {
            Some(Value::Tensor(t)) => Ok(t),
            Some(_) => Err(EvalError::Operand {
                index: i,
                message: "expected a tensor".to_owned(),
            }),
            None => Err(EvalError::Missing { index: i }),
        }
    }

    /// The tensor that is operand `i`, or `None` where it is left out.
    ///
    /// # Errors
    /// It is not a tensor.
    pub fn optional(&self, i: usize) -> Result<Option<&'a Tensor>, EvalError> {
        self.value(i).map(|_| self.tensor(i)).transpose()
    }

    /// The elements of operand `i` as `T`.
    ///
    /// # Errors
    /// It is left out, or its elements are of another type.
    pub fn slice<T: Element>(&self, i: usize) -> Result<std::borrow::Cow<'a, [T]>, EvalError> {
        Ok(self.tensor(i)?.as_slice::<T>()?)
    }

    /// The integers of operand `i`, of any integer type.
    ///
    /// # Errors
    /// It is left out, or not of integers.
    pub fn ints(&self, i: usize) -> Result<Vec<i64>, EvalError> {
        Ok(self.tensor(i)?.to_i64s()?)
    }

    /// The values that regions capture.
    pub fn captured(&self) -> Vec<Value> {
        self.operands[self.len()..]
            .iter()
            .flatten()
            .cloned()
            .collect()
    }

    /// Runs the region in attribute `key` on `inputs`; captures are added.
    ///
    /// # Errors
    /// There is no such region, or a node in it fails.
    pub fn run_region(&self, key: &str, mut inputs: Vec<Value>) -> Result<Vec<Value>, EvalError> {
        let graph = self.op.attr(key).and_then(ir::Attr::as_graph);
        let graph = graph.ok_or_else(|| self.invalid(format!("attribute '{key}' is no graph")))?;
        inputs.extend(self.captured());
        (self.region)(graph, inputs)
    }

    /// An error: `what` of this operator is not implemented.
    pub fn unsupported(&self, what: impl std::fmt::Display) -> EvalError {
        EvalError::Unsupported(format!("{what} of {}", self.op.qualified()))
    }

    /// An error: element type `dtype` of this operator is not implemented.
    pub fn unsupported_type(&self, dtype: DType) -> EvalError {
        self.unsupported(format!("element type {dtype}"))
    }

    /// An error in what the node was given.
    pub fn invalid(&self, message: impl Into<String>) -> EvalError {
        EvalError::Invalid(message.into())
    }
}
