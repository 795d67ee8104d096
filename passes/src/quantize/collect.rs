//! What there is to quantize: the weights, each once, and where they are used.

use std::collections::{HashMap, HashSet};

use indexmap::IndexMap;
use onnxq_ir::{Graph, Model, NodeId, Op, ValueId};
use onnxq_pass::describe;
use onnxq_quant::{Granularity, QuantType, WeightSpec};
use onnxq_tensor::{DType, Dims, Tensor};

use super::{
    options::{Settings, WeightSettings},
    report::{Row, Status},
    select::{self, Role, Skip},
    spread,
    unfold::{Unfolded, Unfolder},
};

/// Tables of fewer elements gain less than the nodes around them cost.
const LEAST_TABLE: usize = 256;

/// Entries of fewer elements are no embeddings: decision trees, say, look up thresholds.
const LEAST_ENTRY: usize = 8;

/// A weight to quantize.
#[derive(Clone, Debug)]
pub(super) struct Job {
    /// The name of the value it is first met as.
    pub(super) name: String,
    pub(super) tensor: Tensor,
    pub(super) spec: WeightSpec,
    /// The axis of the output channels, where one scale is used for all of them.
    pub(super) merged_channels: Option<i64>,
}

/// What makes two uses of a weight the same job: memory, shape, and how it is quantized.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct JobKey {
    memory: usize,
    dims: Dims,
    dtype: DType,
    qtype: QuantType,
    symmetric: Option<bool>,
    granularity: Granularity,
}

/// A use of a weight.
#[derive(Clone, Debug)]
pub(super) struct WeightUse {
    pub(super) node: NodeId,
    pub(super) operand: usize,
    pub(super) value: ValueId,
    /// The index of its job.
    pub(super) job: usize,
    /// The shape that the node takes the weight in, where its codes have another.
    pub(super) dims: Option<Dims>,
    /// Where the weight comes from.
    pub(super) source: NodeId,
    /// The index of the node's row in the report.
    pub(super) row: usize,
}

/// All there is to do.
#[derive(Default)]
pub(super) struct Plan {
    jobs: IndexMap<JobKey, Job>,
    by_memory: HashMap<usize, usize>,
    /// By graph, in the order of [`select::for_each_graph`].
    pub(super) graphs: Vec<Vec<WeightUse>>,
    /// A row for each node that is, or might be expected to be, quantized.
    pub(super) rows: Vec<Row>,
}

impl Plan {
    pub(super) fn jobs(&self) -> impl ExactSizeIterator<Item = &Job> {
        self.jobs.values()
    }

    /// The least opset that the quantized form can be written in.
    pub(super) fn least_opset(&self) -> i64 {
        let of = |job: &Job| match (job.tensor.dtype(), job.spec.granularity) {
            // The other float types as scales.
            (DType::F16 | DType::BF16, _) => 19,
            (_, Granularity::PerChannel { .. }) => 13,
            _ => 12,
        };
        self.jobs().map(of).max().unwrap_or(0)
    }

    /// The first job whose weight is this very constant.
    pub(super) fn job_of(&self, tensor: &Tensor) -> Option<usize> {
        let &job = self.by_memory.get(&address(tensor))?;
        self.jobs[job].tensor.same(tensor).then_some(job)
    }
}

/// Finds the weights of the nodes that the options pick.
pub(super) fn collect(model: &mut Model, settings: &Settings, weights: &WeightSettings) -> Plan {
    let mut plan = Plan::default();
    let mut collector = Collector {
        settings,
        weights,
        opset: model.opset("").unwrap_or(1),
        unfolder: Unfolder::default(),
        in_body: true,
    };
    let mut graphs = 0;
    model.graph.for_each_graph(&mut |_: &Graph| graphs += 1);
    select::for_each_graph(settings, &mut model.graph, |graph| {
        // The outermost graph comes last.
        collector.in_body = settings.subgraphs && plan.graphs.len() + 1 < graphs;
        let mut uses = Vec::new();
        let needed = graph.needed();
        for n in graph.op_order() {
            if needed[n.index()] {
                collector.node(graph, n, &mut plan, &mut uses);
            }
        }
        plan.graphs.push(uses);
    });
    plan
}

struct Collector<'a> {
    settings: &'a Settings,
    weights: &'a WeightSettings,
    opset: i64,
    unfolder: Unfolder,
    in_body: bool,
}

/// A weight that can be quantized, and how.
struct Found {
    operand: usize,
    value: ValueId,
    source: NodeId,
    tensor: Tensor,
    spec: WeightSpec,
    dims: Option<Dims>,
    merged_channels: Option<i64>,
}

impl Collector<'_> {
    fn node(&mut self, graph: &Graph, n: NodeId, plan: &mut Plan, uses: &mut Vec<WeightUse>) {
        let found = match select::selected(self.settings, graph.node(n)) {
            Ok(role) => self.weights(graph, n, role),
            Err(skip) => Err(skip),
        };
        let status = match &found {
            Ok(_) => Status::Quantized,
            Err(Skip::Because(reason)) => Status::Skipped(reason.clone()),
            Err(Skip::Other) => return,
        };
        let row = plan.rows.len();
        plan.rows.push(Row {
            graph: graph.name.clone(),
            node: describe(graph, n).to_string(),
            op: graph.op(n).map_or_else(String::new, Op::qualified),
            weights: Vec::new(),
            before: 0,
            after: 0,
            status,
        });
        for found in found.into_iter().flatten() {
            let key = JobKey {
                memory: address(&found.tensor),
                dims: Dims::from_slice(found.tensor.dims()),
                dtype: found.tensor.dtype(),
                qtype: found.spec.qtype,
                symmetric: found.spec.symmetric,
                granularity: found.spec.granularity,
            };
            let name = &graph.value(found.value).name;
            plan.rows[row].weights.push(name.clone());
            plan.rows[row].before += found.tensor.byte_len();
            let entry = plan.jobs.entry(key);
            let job = entry.index();
            plan.by_memory.entry(address(&found.tensor)).or_insert(job);
            entry.or_insert_with(|| Job {
                name: name.clone(),
                tensor: found.tensor,
                spec: found.spec,
                merged_channels: found.merged_channels,
            });
            uses.push(WeightUse {
                node: n,
                operand: found.operand,
                value: found.value,
                job,
                dims: found.dims,
                source: found.source,
                row,
            });
        }
    }

    fn weights(&mut self, graph: &Graph, n: NodeId, role: Role) -> Result<Vec<Found>, Skip> {
        let op = graph.op(n).ok_or(Skip::Other)?;
        match role {
            Role::Product {
                activation,
                weight,
                channels,
            } => {
                let found = self.operand(graph, n, weight);
                if found.is_err() && self.literal(graph, n, activation) {
                    return Err(Skip::because("the constant is the left operand"));
                }
                if found.is_err() && self.multiplies_computed(graph, n) {
                    return Ok(Vec::new());
                }
                let (value, Unfolded { tensor, source }) = found?;
                let spec = self.product_spec(op, &tensor, channels);
                let merged = spec.granularity == Granularity::PerTensor && tensor.rank() > 1;
                Ok(vec![Found {
                    operand: weight,
                    value,
                    source,
                    tensor,
                    spec,
                    dims: None,
                    merged_channels: merged.then_some(channels),
                }])
            }
            Role::Table => self.table(graph, n).map(|found| vec![found]),
            Role::Recurrent => {
                let w = self.recurrent(graph, n, 1)?;
                Ok(vec![w, self.recurrent(graph, n, 2)?])
            }
        }
    }

    /// Whether both operands of a MatMul are to be quantized while the model runs.
    fn multiplies_computed(&self, graph: &Graph, n: NodeId) -> bool {
        let matmul = graph.is(n, "MatMul") && !self.settings.matmul_const_b_only;
        matmul && select::computes_floats(graph, n, 0) && select::computes_floats(graph, n, 1)
    }

    fn literal(&mut self, graph: &Graph, n: NodeId, operand: usize) -> bool {
        let v = graph.operand(n, operand);
        v.is_some_and(|v| self.unfolder.tensor(graph, v, self.opset).is_some())
    }

    /// The constant operand `i` of `n`, if it is of floats.
    fn operand(&mut self, graph: &Graph, n: NodeId, i: usize) -> Result<(ValueId, Unfolded), Skip> {
        let v = graph.operand(n, i).ok_or(Skip::Other)?;
        let Some(unfolded) = self.unfolder.tensor(graph, v, self.opset) else {
            return Err(Skip::because(match graph.op(v.node) {
                Some(op) if op.op_type == "DequantizeLinear" => "the weight is quantized already",
                _ => "the weight is computed",
            }));
        };
        match unfolded.tensor.dtype() {
            DType::F32 | DType::F16 => Ok((v, unfolded)),
            dtype => Err(Skip::because(format!("the weight is of {dtype}"))),
        }
    }

    fn product_spec(&self, op: &Op, tensor: &Tensor, channels: i64) -> WeightSpec {
        let rank = tensor.rank();
        let weights = self.weights;
        let spec = WeightSpec {
            symmetric: weights.symmetric,
            reduce_range: weights.reduce_range,
            min_real_range: weights.min_real_range,
            ..WeightSpec::new(weights.weight_type)
        };
        let per_channel = match weights.per_channel {
            Some(given) => given && !(self.settings.compat && op.is("Conv")),
            None => self.in_body && spread::spread(tensor, channels) > spread::WORTH_CHANNELS,
        };
        let axis = weights.axis(&op.op_type, channels);
        let axis = if axis < 0 { axis + rank as i64 } else { axis };
        // A vector has no output channels.
        if !per_channel || rank < 2 || !(0..rank as i64).contains(&axis) {
            return spec;
        }
        // ConvInteger takes one zero point, so that of all channels must be the same.
        let symmetric = match weights.symmetric {
            None if op.is("Conv") => Some(true),
            given => given,
        };
        WeightSpec { symmetric, ..spec }.per_channel(axis)
    }

    fn table(&mut self, graph: &Graph, n: NodeId) -> Result<Found, Skip> {
        let (value, Unfolded { tensor, source }) = match self.operand(graph, n, 0) {
            Ok(found) => found,
            Err(_) => return Err(Skip::Other),
        };
        let axis = graph.op(n).map_or(0, |op| op.int("axis", 0));
        let axis = if axis < 0 {
            axis + tensor.rank() as i64
        } else {
            axis
        };
        let entries = usize::try_from(axis)
            .ok()
            .and_then(|a| tensor.dims().get(a));
        let entry = tensor.len() / entries.map_or(1, |&e| e.max(1));
        let small = tensor.len() < LEAST_TABLE || entry < LEAST_ENTRY;
        if small && !self.settings.compat {
            return Err(Skip::because("the table, or an entry of it, is small"));
        }
        let spec = WeightSpec {
            symmetric: Some(self.settings.activation_symmetric),
            min_real_range: self.weights.min_real_range,
            ..WeightSpec::new(self.settings.activation_type)
        };
        Ok(Found {
            operand: 0,
            value,
            source,
            tensor,
            spec,
            dims: None,
            merged_channels: None,
        })
    }

    /// A weight `[directions, 4 * hidden, _]` of an LSTM: one scale for each direction, or, per
    /// channel, for each row of `[directions * 4 * hidden, _]`.
    fn recurrent(&mut self, graph: &Graph, n: NodeId, i: usize) -> Result<Found, Skip> {
        let (value, Unfolded { tensor, source }) = self.operand(graph, n, i)?;
        let &[directions, rows, columns] = tensor.dims() else {
            return Err(Skip::because("the weight is not of rank 3"));
        };
        let spec = WeightSpec {
            symmetric: Some(true),
            reduce_range: self.weights.reduce_range,
            min_real_range: self.weights.min_real_range,
            ..WeightSpec::new(QuantType::Int8)
        };
        let dims = Dims::from_slice(tensor.dims());
        let (tensor, spec, dims) = if self.weights.per_channel == Some(true) {
            let flat = tensor.reshape([directions.saturating_mul(rows), columns].as_slice());
            let flat = flat.map_err(|e| Skip::because(e.to_string()))?;
            (flat, spec.per_channel(0), Some(dims))
        } else if directions == 1 {
            (tensor, spec, None)
        } else {
            (tensor, spec.per_channel(0), None)
        };
        Ok(Found {
            operand: i,
            value,
            source,
            tensor,
            spec,
            dims,
            merged_channels: None,
        })
    }
}

fn address(tensor: &Tensor) -> usize {
    tensor.bytes().as_ptr() as usize
}

/// The bytes of all constants that the model needs, shared ones once.
pub(super) fn constant_bytes(model: &Model) -> usize {
    let mut seen = HashSet::new();
    let mut bytes = 0;
    model.for_each_graph(|graph| {
        let mut count = |tensor: &Tensor| {
            let memory = tensor.bytes().as_ptr_range();
            if tensor.byte_len() > 0 && seen.insert((memory.start, memory.end)) {
                bytes += tensor.byte_len();
            }
        };
        let needed = graph.needed();
        for n in graph.node_ids().filter(|n| needed[n.index()]) {
            let node = graph.node(n);
            node.tensor().into_iter().for_each(&mut count);
            let attrs = node.op().into_iter().flat_map(|op| op.attrs.values());
            attrs.filter_map(|a| a.as_tensor()).for_each(&mut count);
        }
    });
    bytes
}
