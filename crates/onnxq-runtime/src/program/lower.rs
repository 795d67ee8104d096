//! From a graph with known shapes to steps.

use std::{collections::HashMap, sync::Arc};

use onnxq_ir::{Graph, Model, NodeId, NodeKind, Op, ValueId, def::Literal};
use onnxq_kernels::Line;
use onnxq_ops::{
    EvalError, Value,
    interpret::{Interpreter, at_node},
};
use onnxq_tensor::{DType, Dims, Tensor};
use smallvec::SmallVec;

use super::{
    Input, Output, Place, Program, ProgramError, ProgramOptions, Step, aligned,
    arena::{self, Life},
    dead, in_place,
    source::Port,
    steps::{self, Kernel},
    store::Store,
    threads::Threads,
};

/// In which order the elements of a tensor lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Layout {
    /// As the dimensions say.
    Plain,
    /// Axis 1 after all others.
    ChannelsLast,
}

/// A value: where it is, and what.
#[derive(Clone, Debug)]
pub(super) struct Home {
    pub(super) place: Place,
    pub(super) dtype: DType,
    /// In the order of the model, whatever the layout.
    pub(super) dims: Dims,
    pub(super) layout: Layout,
}

impl Home {
    /// How many elements.
    pub(super) fn len(&self) -> usize {
        self.dims.iter().product()
    }

    /// Images, channels and positions, for a tensor with channels.
    pub(super) fn image(&self) -> Option<[usize; 3]> {
        let (&[n, c], space) = self.dims.split_first_chunk::<2>()?;
        Some([n, c, space.iter().product()])
    }

    /// The dimensions in the order in which the elements lie in memory.
    pub(super) fn in_memory(&self) -> Dims {
        match (self.layout, &self.dims[..]) {
            (Layout::ChannelsLast, &[n, c, ref space @ ..]) => std::iter::once(n)
                .chain(space.iter().copied())
                .chain([c])
                .collect(),
            _ => self.dims.clone(),
        }
    }

    /// Whether both layouts are one.
    pub(super) fn is_both(&self) -> bool {
        self.image()
            .is_none_or(|[_, c, space]| c == 1 || space == 1)
    }
}

/// Lowering of one graph. Families of steps read it and add to it.
pub(super) struct Lowering<'m> {
    pub(super) model: &'m Arc<Model>,
    pub(super) graph: &'m Graph,
    pub(super) options: ProgramOptions,
    /// By index of the node, then by result.
    homes: Vec<SmallVec<[Option<Home>; 1]>>,
    /// Values that are there in the other layout as well.
    relaid: HashMap<ValueId, Home>,
    /// Nodes that are part of another one's step.
    done: Vec<bool>,
    /// Bytes of each buffer.
    buffers: Vec<usize>,
    steps: Vec<Step>,
    constants: Vec<Tensor>,
    /// Packed weights.
    pub(super) weights: Store,
}

/// The program for `model`.
pub(super) fn lower(model: Arc<Model>, options: ProgramOptions) -> Result<Program, ProgramError> {
    let graph = &model.graph;
    let mut lowering = Lowering {
        model: &model,
        graph,
        options,
        homes: vec![SmallVec::new(); graph.node_bound()],
        relaid: HashMap::new(),
        done: vec![false; graph.node_bound()],
        buffers: Vec::new(),
        steps: Vec::new(),
        constants: Vec::new(),
        weights: Store::new(options.cpu),
    };
    let mut inputs = Vec::new();
    for (i, &n) in graph.inputs().iter().enumerate() {
        let value = graph.result(n, 0);
        let mut input = Input {
            port: Port {
                name: graph.value(value).name.clone(),
                dtype: DType::U8,
                dims: Dims::new(),
            },
            default: graph.tensor(value).cloned(),
        };
        if graph.is_used(value) {
            let home = lowering.described(value, Place::Input(i))?;
            (input.port.dtype, input.port.dims) = (home.dtype, home.dims.clone());
            lowering.homes[n.index()].push(Some(home));
        }
        inputs.push(input);
    }
    let needed = graph.needed();
    let mut order = graph.order();
    order.retain(|n| needed[n.index()] && lowering.homes[n.index()].is_empty());
    // Constants first: a node may take those of the nodes after it.
    for &n in &order {
        if let NodeKind::Constant(constant) = &graph.node(n).kind {
            lowering.constant_node(n, &constant.value)?;
        }
    }
    for n in order {
        if let Some(op) = graph.op(n)
            && !lowering.is_done(n)
        {
            lowering.node(n, op)?;
        }
    }
    let mut outputs = Vec::new();
    for (value, output) in graph.results().into_iter().zip(&graph.outputs) {
        let home = value.and_then(|v| lowering.plain(v));
        let home = home.ok_or_else(|| ProgramError::Type {
            value: output.name.clone(),
            node: "output".to_owned(),
        })?;
        outputs.push(Output {
            place: home.place,
            dtype: home.dtype,
            dims: home.dims,
        });
    }
    lowering.finish(inputs, outputs)
}

impl<'m> Lowering<'m> {
    /// Where a value is, in whatever layout.
    pub(super) fn home(&self, v: ValueId) -> Option<&Home> {
        self.homes[v.node.index()].get(v.result as usize)?.as_ref()
    }

    /// Where operand `i` of a node is.
    pub(super) fn operand(&self, n: NodeId, i: usize) -> Option<&Home> {
        self.home(self.graph.operand(n, i)?)
    }

    /// The tensor, if a value is known before any run.
    pub(super) fn constant(&self, v: ValueId) -> Option<&Tensor> {
        match self.home(v)?.place {
            Place::Constant(i) => Some(&self.constants[i]),
            _ => None,
        }
    }

    /// The tensor, if operand `i` is known before any run.
    pub(super) fn constant_operand(&self, n: NodeId, i: usize) -> Option<&Tensor> {
        self.constant(self.graph.operand(n, i)?)
    }

    /// The one element of operand `i`, a float known before any run.
    pub(super) fn scalar(&self, n: NodeId, i: usize) -> Option<f32> {
        let tensor = self.constant_operand(n, i)?;
        (tensor.dtype() == DType::F32 && tensor.len() == 1).then_some(())?;
        tensor.item().ok()
    }

    /// The one zero point of operand `i`, 0 where there is none.
    pub(super) fn zero_point(&self, n: NodeId, i: usize) -> Option<i32> {
        if self.graph.operand(n, i).is_none() {
            return Some(0);
        }
        let tensor = self.constant_operand(n, i)?;
        (tensor.len() == 1 && tensor.dtype().is_int()).then_some(())?;
        i32::try_from(tensor.scalar_i64().ok()?).ok()
    }

    /// The element type and the dimensions of a value, as inference has found them.
    pub(super) fn type_of(&self, v: ValueId) -> Option<(DType, Dims)> {
        let ty = self.graph.ty(v)?.as_tensor()?;
        let known = |d: &onnxq_tensor::Dim| usize::try_from(d.as_const()?).ok();
        let dims = ty.shape.as_ref()?.iter().map(known);
        Some((ty.dtype?, dims.collect::<Option<Dims>>()?))
    }

    fn described(&self, v: ValueId, place: Place) -> Result<Home, ProgramError> {
        let node = self.graph.node(v.node);
        let names = || {
            let op = node.op().map_or_else(|| "input".to_owned(), Op::qualified);
            (self.graph.value(v).name.clone(), op)
        };
        let numbers = |dtype: DType| dtype.bits() >= 8 && dtype != DType::String;
        if let Some(dtype) = self.graph.ty(v).and_then(|t| t.dtype())
            && !numbers(dtype)
        {
            let (value, node) = names();
            return Err(ProgramError::Type { value, node });
        }
        let Some((dtype, dims)) = self.type_of(v) else {
            let (value, node) = names();
            return Err(ProgramError::Shape { value, node });
        };
        Ok(Home {
            place,
            dtype,
            dims,
            layout: Layout::Plain,
        })
    }

    /// The value in plain layout, relaid if need be.
    pub(super) fn plain(&mut self, v: ValueId) -> Option<Home> {
        self.laid(v, Layout::Plain)
    }

    /// The value with its channels last, relaid if need be.
    pub(super) fn channels_last(&mut self, v: ValueId) -> Option<Home> {
        self.laid(v, Layout::ChannelsLast)
    }

    /// The value in a layout, relaid if need be.
    pub(super) fn laid(&mut self, v: ValueId, layout: Layout) -> Option<Home> {
        let home = self.home(v)?.clone();
        if home.layout == layout || home.is_both() {
            return Some(Home { layout, ..home });
        }
        if let Some(relaid) = self.relaid.get(&v) {
            return Some(relaid.clone());
        }
        let kernel = steps::layout::relay(&home, layout)?;
        let name = self.graph.value(v).name.clone();
        let mut to = Home {
            layout,
            ..home.clone()
        };
        to.place = Place::Buffer(self.buffer(to.len() * to.dtype.bits() / 8));
        self.push(name, kernel, &[home.place], &[to.place]);
        self.relaid.insert(v, to.clone());
        Some(to)
    }

    /// A new buffer.
    pub(super) fn buffer(&mut self, bytes: usize) -> usize {
        self.buffers.push(bytes);
        self.buffers.len() - 1
    }

    /// A constant that is no value of the graph.
    pub(super) fn add_constant(&mut self, tensor: Tensor) -> Place {
        self.constants.push(tensor);
        Place::Constant(self.constants.len() - 1)
    }

    /// A home in a new buffer for result `i` of `n`, of the type that inference has found.
    pub(super) fn make(&mut self, v: ValueId, layout: Layout) -> Option<Home> {
        let (dtype, dims) = self.type_of(v)?;
        let bytes = dtype.byte_len(onnxq_tensor::element_count(&dims).ok()?)?;
        Some(Home {
            place: Place::Buffer(self.buffer(bytes)),
            dtype,
            dims,
            layout,
        })
    }

    /// Says where a value is.
    pub(super) fn settle(&mut self, v: ValueId, home: Home) {
        let homes = &mut self.homes[v.node.index()];
        let results = self.graph.node(v.node).results.len();
        homes.resize(results.max(homes.len()), None);
        homes[v.result as usize] = Some(home);
    }

    /// Says that a node is part of another one's step.
    pub(super) fn absorb(&mut self, n: NodeId) {
        self.done[n.index()] = true;
    }

    /// Whether a node is part of another one's step, or has its own already.
    pub(super) fn is_done(&self, n: NodeId) -> bool {
        self.done[n.index()] || !self.homes[n.index()].is_empty()
    }

    /// The node that alone uses `v`, with the number of the operand, if it is still to be lowered.
    pub(super) fn sole_user(&self, v: ValueId) -> Option<(NodeId, usize, &'m Op)> {
        let user = self.graph.sole_use(v)?;
        let op = self.graph.op(user.node)?;
        let open = self.model.callee(op).is_none() && !self.is_done(user.node);
        open.then_some((user.node, user.operand as usize, op))
    }

    /// Adds a step.
    pub(super) fn push(
        &mut self,
        name: String,
        kernel: Box<dyn Kernel>,
        operands: &[Place],
        results: &[Place],
    ) {
        let results = results.iter().filter_map(|place| match *place {
            Place::Buffer(b) => Some(b),
            _ => None,
        });
        self.steps.push(Step {
            name,
            kernel,
            operands: operands.into(),
            results: results.collect(),
        });
    }

    /// Adds the step of a node with one result, in a new buffer.
    pub(super) fn push_node(
        &mut self,
        n: NodeId,
        kernel: Box<dyn Kernel>,
        operands: &[Place],
        layout: Layout,
    ) -> Option<()> {
        self.push_result(n, n, kernel, operands, layout)
    }

    /// Adds the step of the nodes from `first` to `last`, whose one result goes to a new buffer.
    pub(super) fn push_result(
        &mut self,
        first: NodeId,
        last: NodeId,
        kernel: Box<dyn Kernel>,
        operands: &[Place],
        layout: Layout,
    ) -> Option<()> {
        let v = self.graph.result(last, 0);
        let home = self.make(v, layout)?;
        self.push(self.name(first), kernel, operands, &[home.place]);
        self.settle(v, home);
        Some(())
    }

    /// The name of a node, or of its first result where it has none.
    pub(super) fn name(&self, n: NodeId) -> String {
        let node = self.graph.node(n);
        match node.name.is_empty() {
            true => node
                .results
                .first()
                .map_or_else(String::new, |v| v.name.clone()),
            false => node.name.clone(),
        }
    }

    fn constant_node(&mut self, n: NodeId, literal: &Literal) -> Result<(), ProgramError> {
        let Literal::Dense(tensor) = literal else {
            let e = EvalError::Unsupported("evaluation of sparse constants".to_owned());
            return Err(at_node(self.graph.node(n), e).into());
        };
        self.settle_constant(self.graph.result(n, 0), tensor.clone());
        Ok(())
    }

    fn settle_constant(&mut self, v: ValueId, tensor: Tensor) {
        let home = Home {
            dtype: tensor.dtype(),
            dims: tensor.dims().into(),
            layout: Layout::Plain,
            place: self.add_constant(tensor),
        };
        self.settle(v, home);
    }

    fn node(&mut self, n: NodeId, op: &'m Op) -> Result<(), ProgramError> {
        if self.fold(n, op)? {
            return Ok(());
        }
        if self.model.callee(op).is_none() && steps::lower(self, n, op).is_some() {
            return Ok(());
        }
        self.reference(n, op)
    }

    /// Evaluates what depends on nothing but constants.
    fn fold(&mut self, n: NodeId, op: &Op) -> Result<bool, ProgramError> {
        let operands: SmallVec<[_; 4]> = self.graph.operands(n);
        let known = |v: &Option<ValueId>| v.is_none_or(|v| self.constant(v).is_some());
        let pure = match operands.is_empty() {
            true => op.domain.is_empty() && op.op_type == "Constant",
            false => op.regions().next().is_none() && !op.op_type.starts_with("Random"),
        };
        if !pure || !operands.iter().all(known) || op.op_type == "Bernoulli" {
            return Ok(false);
        }
        let value = |v: &Option<ValueId>| v.and_then(|v| self.constant(v)).cloned();
        let operands: Vec<_> = operands
            .iter()
            .map(|v| value(v).map(Value::Tensor))
            .collect();
        let node = self.graph.node(n);
        let results = Interpreter::new(self.model).run_node(op, &operands, node.results.len());
        let results = results.map_err(|e| at_node(node, e))?;
        for (i, value) in results.into_iter().enumerate() {
            let v = self.graph.result(n, i);
            match value {
                Value::Tensor(tensor) => self.settle_constant(v, tensor),
                _ if !self.graph.is_used(v) => {}
                _ => {
                    return Err(ProgramError::Type {
                        value: self.graph.value(v).name.clone(),
                        node: op.qualified(),
                    });
                }
            }
        }
        Ok(true)
    }

    /// A node as the reference evaluates it.
    fn reference(&mut self, n: NodeId, op: &'m Op) -> Result<(), ProgramError> {
        let mut operands = Vec::new();
        let mut places = Vec::new();
        for v in self.graph.operands(n) {
            let home = v.and_then(|v| self.plain(v));
            if let (None, Some(v)) = (&home, v) {
                return Err(ProgramError::Type {
                    value: self.graph.value(v).name.clone(),
                    node: op.qualified(),
                });
            }
            places.extend(home.as_ref().map(|home| home.place));
            operands.push(home.map(|home| (home.dtype, home.dims)));
        }
        let mut results = Vec::new();
        let mut made = Vec::new();
        for i in 0..self.graph.node(n).results.len() {
            let v = self.graph.result(n, i);
            if !self.graph.is_used(v) && !self.graph.is_output(v) {
                results.push(None);
                continue;
            }
            let mut home = self.described(v, Place::Buffer(0))?;
            let bytes = onnxq_tensor::element_count(&home.dims)
                .ok()
                .and_then(|len| home.dtype.byte_len(len));
            home.place = Place::Buffer(self.buffer(bytes.ok_or(ProgramError::Memory)?));
            results.push(Some((home.dtype, home.dims.clone())));
            made.push((v, home));
        }
        let kernel = steps::reference::Reference::new(self.model, n, op, operands, results);
        let to: Vec<Place> = made.iter().map(|(_, home)| home.place).collect();
        self.push(self.name(n), Box::new(kernel), &places, &to);
        for (v, home) in made {
            self.settle(v, home);
        }
        Ok(())
    }

    fn finish(mut self, inputs: Vec<Input>, outputs: Vec<Output>) -> Result<Program, ProgramError> {
        dead::remove(&mut self.steps, &outputs, self.buffers.len());
        let shared = in_place::share(&mut self.steps, &outputs, &self.buffers);
        let scratch = self
            .steps
            .iter()
            .map(|step| step.kernel.scratch(self.options.threads))
            .max();
        let steps = self.steps.len();
        let mut lives: Vec<Life> = self
            .buffers
            .iter()
            .map(|&bytes| Life {
                lines: Line::count(bytes),
                first: steps,
                last: 0,
            })
            .collect();
        for (i, step) in self.steps.iter().enumerate() {
            for &b in &step.results {
                let life = &mut lives[shared[b]];
                life.first = life.first.min(i);
                life.last = life.last.max(i);
            }
            for place in &step.operands {
                if let Place::Buffer(b) = *place {
                    let life = &mut lives[shared[b]];
                    life.last = life.last.max(i);
                }
            }
        }
        for output in &outputs {
            if let Place::Buffer(b) = output.place {
                lives[shared[b]].last = steps;
            }
        }
        // What no step writes has no life.
        for life in &mut lives {
            if life.first > life.last {
                *life = Life {
                    lines: 0,
                    first: 0,
                    last: 0,
                };
            }
        }
        let (offsets, arena) = arena::place(&lives, steps);
        let buffers = shared.iter().map(|&b| (offsets[b], lives[b].lines));
        let mut read = vec![false; self.constants.len()];
        let places = self.steps.iter().flat_map(|step| step.operands.iter());
        for place in places.chain(outputs.iter().map(|output| &output.place)) {
            if let Place::Constant(i) = *place {
                read[i] = true;
            }
        }
        // Constants that only lowering has read are not kept.
        let constants = self
            .constants
            .iter()
            .zip(read)
            .map(|(tensor, read)| match read {
                true => aligned(tensor),
                false => {
                    tensor.release();
                    Tensor::scalar(0u8)
                }
            });
        let operations: u64 = self.steps.iter().map(|s| s.kernel.operations()).sum();
        let threads = Threads::new(self.options.threads)
            .map_err(|e| ProgramError::Threads(self.options.threads, e.to_string()))?;
        Ok(Program {
            model: self.model.clone(),
            constants: constants.collect(),
            weights: self.weights,
            buffers: buffers.collect(),
            arena,
            scratch: scratch.unwrap_or(0),
            inputs,
            outputs,
            options: self.options,
            threads,
            // What is no product takes about as long as those.
            nanoseconds: operations / 500,
            steps: self.steps,
        })
    }
}
