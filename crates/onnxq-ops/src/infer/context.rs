//! What an operator sees when its types are inferred.

use onnxq_ir::{self as ir, Attr, Graph, Type};
use onnxq_tensor::{DType, Dim, Shape, Tensor};

use super::{Fact, GraphFacts, SymTensor};

/// Why nothing more is known of a node's results.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unknown(pub String);

impl Unknown {
    /// A reason, in words.
    pub fn new(reason: impl Into<String>) -> Unknown {
        Unknown(reason.into())
    }
}

/// Infers a region: the facts of its inputs (captures included, last) to its own.
pub(super) type InferRegion<'a> = dyn FnMut(&Graph, Vec<Fact>) -> GraphFacts + 'a;

/// What an operator sees when its types are inferred, and where it puts what it finds.
pub struct InferContext<'a> {
    pub(super) op: &'a ir::Op,
    pub(super) opset: i64,
    pub(super) operands: &'a [Option<&'a Fact>],
    pub(super) results: Vec<Fact>,
    pub(super) result_names: Vec<&'a str>,
    pub(super) region: &'a mut InferRegion<'a>,
    pub(super) regions: Vec<(String, GraphFacts)>,
    pub(super) depth: usize,
    pub(super) scope: &'a str,
}

impl<'a> InferContext<'a> {
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

    /// The number of results.
    pub fn results(&self) -> usize {
        self.results.len()
    }

    /// Where graphs are nested deeper, loops settle for less so that time stays linear.
    pub const DEEP: usize = 3;

    /// How many graphs the node's own graph is nested in.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Whether operand `i` is given.
    pub fn has(&self, i: usize) -> bool {
        self.fact_opt(i).is_some()
    }

    fn fact_opt(&self, i: usize) -> Option<&'a Fact> {
        self.operands[..self.len()].get(i).copied().flatten()
    }

    /// What is known of operand `i`.
    ///
    /// # Errors
    /// It is left out.
    pub fn fact(&self, i: usize) -> Result<&'a Fact, Unknown> {
        self.fact_opt(i)
            .ok_or_else(|| Unknown(format!("operand {i} is missing")))
    }

    /// The type of operand `i`.
    ///
    /// # Errors
    /// It is left out, or its type is unknown.
    pub fn ty(&self, i: usize) -> Result<&'a Type, Unknown> {
        let ty = self.fact(i)?.ty.as_ref();
        ty.ok_or_else(|| Unknown(format!("the type of operand {i} is unknown")))
    }

    /// The element type of operand `i`.
    ///
    /// # Errors
    /// It is left out, or its element type is unknown.
    pub fn dtype(&self, i: usize) -> Result<DType, Unknown> {
        let dtype = self.fact(i)?.dtype();
        dtype.ok_or_else(|| Unknown(format!("the element type of operand {i} is unknown")))
    }

    /// The shape of operand `i`.
    ///
    /// # Errors
    /// It is left out, or its rank is unknown.
    pub fn shape(&self, i: usize) -> Result<&'a Shape, Unknown> {
        let shape = self.fact(i)?.shape();
        shape.ok_or_else(|| Unknown(format!("the rank of operand {i} is unknown")))
    }

    /// The tensor that operand `i` always is, of any size and type.
    pub fn constant(&self, i: usize) -> Option<&'a Tensor> {
        self.fact_opt(i)?.constant.as_ref()
    }

    /// The symbolic elements of operand `i`.
    ///
    /// # Errors
    /// It is left out, or they are not known.
    pub fn value(&self, i: usize) -> Result<&'a SymTensor, Unknown> {
        let value = self.fact(i)?.value.as_ref();
        value.ok_or_else(|| Unknown(format!("the value of operand {i} is unknown")))
    }

    /// The constant integers of operand `i`.
    ///
    /// # Errors
    /// It is left out, or they are not constant.
    pub fn ints(&self, i: usize) -> Result<Vec<i64>, Unknown> {
        let ints = self.value(i)?.as_consts();
        ints.ok_or_else(|| Unknown(format!("the value of operand {i} is not constant")))
    }

    /// A symbol for dimension `axis` of result `i`, which depends on data. Its name derives from
    /// the result's, and from those of the nodes whose graphs it is in.
    pub fn fresh(&self, i: usize, axis: usize) -> Dim {
        let scope = self.scope;
        match self.result_names.get(i) {
            Some(name) if !name.is_empty() => Dim::symbol(&format!("{scope}{name}_dim_{axis}")),
            _ => Dim::UNKNOWN,
        }
    }

    /// Sets what is known of result `i`; ignored where the node has no such result.
    pub fn set(&mut self, i: usize, fact: Fact) {
        if let Some(slot) = self.results.get_mut(i) {
            *slot = fact;
        }
    }

    /// What has been set of result `i`.
    pub fn result(&self, i: usize) -> &Fact {
        static UNKNOWN: Fact = Fact {
            ty: None,
            value: None,
            constant: None,
        };
        self.results.get(i).unwrap_or(&UNKNOWN)
    }

    /// Sets the type of result `i`.
    pub fn set_type(&mut self, i: usize, ty: Type) {
        self.set(i, Fact::of_type(ty));
    }

    /// Sets result `i` to a tensor of this element type and shape.
    pub fn set_tensor(&mut self, i: usize, dtype: DType, shape: Shape) {
        self.set_type(i, Type::tensor(dtype, Some(shape)));
    }

    /// Sets result `i` to a tensor of this element type and unknown shape.
    pub fn set_dtype(&mut self, i: usize, dtype: DType) {
        self.set_type(i, Type::tensor(dtype, None));
    }

    /// Sets result `i` to a tensor with symbolic elements.
    pub fn set_value(&mut self, i: usize, value: SymTensor) {
        self.set(i, Fact::of_value(value));
    }

    /// The facts of the results of the region in attribute `key`, for these facts of its inputs;
    /// what is known of the captures is added. May be called again with weaker facts (loops do):
    /// the last call counts.
    ///
    /// # Errors
    /// There is no such region.
    pub fn region(&mut self, key: &str, mut inputs: Vec<Fact>) -> Result<Vec<Fact>, Unknown> {
        let graph = self.op.attr(key).and_then(Attr::as_graph);
        let graph = graph.ok_or_else(|| Unknown(format!("attribute '{key}' is no graph")))?;
        let captures = &self.operands[self.len()..];
        inputs.extend(captures.iter().map(|f| f.cloned().unwrap_or_default()));
        let facts = (self.region)(graph, inputs);
        let results = facts.results(graph);
        self.regions.retain(|(k, _)| k != key);
        self.regions.push((key.to_owned(), facts));
        Ok(results)
    }
}
