//! Puts the weights of the selected nodes in codes.
//!
//! ```text
//! y = MatMul(x, W)   =>   y = MatMul(x, DequantizeLinear(W_quantized, W_scale, W_zero_point))
//! ```
//!
//! A weight is quantized once for each way in which it is to be, however many nodes use it and in
//! however many regions; a way back over Constant nodes, Transpose and the like is walked. Other
//! users of a quantized weight read it dequantized, so that it is stored once.
//!
//! Inside bodies a weight gets a scale for each channel, without being asked, where one for all
//! would not do it justice. Elsewhere too few bits are a warning: there, weights are those of the
//! quantization tool of ONNX Runtime, bit for bit, and that tool leaves bodies alone.
//!
//! Does not fire for weights that are computed, not of float or float16, quantized already, or
//! not finite; for small tables; and for what the options leave out. Raises the opset where the
//! quantized form needs it: 12, 13 for more than one scale, 19 for scales of float16.

use indexmap::{IndexMap, IndexSet};
use onnxq_ir::{Graph, Model, NodeId, NodeKind, Op, Type, Value, ValueId, def::Literal};
use onnxq_pass::{Error, Options, Pass, PassContext, PassError, PassInfo};
use onnxq_quant::{Granularity, QuantizedWeight, quantize_weight};
use onnxq_tensor::{Dims, Tensor};
use rayon::prelude::*;

use super::{
    collect::{Job, Plan, WeightUse, collect, constant_bytes},
    options::{Settings, WEIGHT_OPTIONS, WeightSettings},
    report::{self, Row, Status},
    require, select,
    spread::{Steps, steps},
};

pub(crate) const INFO: PassInfo = PassInfo {
    name: "quantize-weights",
    summary: "put constant weights in codes, each behind a DequantizeLinear",
    options: WEIGHT_OPTIONS,
    build,
};

fn build(opts: &mut Options) -> Result<Box<dyn Pass>, Error> {
    let mut settings = Settings::take(opts)?;
    let weights = WeightSettings::take(opts, &mut settings)?;
    Ok(Box::new(QuantizeWeights { settings, weights }))
}

struct QuantizeWeights {
    settings: Settings,
    weights: WeightSettings,
}

/// What became of a weight: codes, or why there are none.
type Outcome = Result<Codes, onnxq_quant::Error>;

/// A weight in codes.
struct Codes {
    weight: QuantizedWeight,
    /// What one scale leaves of its channels, where it is for all of them.
    steps: Option<Steps>,
}

/// Before version 4 of the file format every initializer had to be an input as well.
const IR_VERSION_OF_INITIALIZERS: i64 = 4;

impl Pass for QuantizeWeights {
    fn name(&self) -> &str {
        INFO.name
    }

    fn run(&mut self, model: &mut Model, cx: &mut PassContext) -> Result<(), PassError> {
        let Self { settings, weights } = self;
        if !settings.is_dynamic(cx)? {
            return Ok(());
        }
        for complaint in select::complaints(settings, &model.graph) {
            cx.warning(complaint);
        }
        let before = constant_bytes(model);
        let mut plan = collect(model, settings, weights);
        if require::opset(model, cx, plan.least_opset())? {
            plan = collect(model, settings, weights);
        }
        if plan.jobs().len() > 0 {
            require::ir_version(model, IR_VERSION_OF_INITIALIZERS);
        }
        let outcomes = quantize(&plan, cx);
        let mut rows = std::mem::take(&mut plan.rows);
        fail_rows(&plan, &outcomes, &mut rows);
        let done = insert(model, settings, &plan, &outcomes, &mut rows, cx);
        report::rows(cx, &rows);
        warn_of_lost_channels(&plan, &outcomes, cx);
        report::summary(cx, &rows, done, before, constant_bytes(model));
        Ok(())
    }
}

/// Quantizes every weight, on as many threads as the context allows.
fn quantize(plan: &Plan, cx: &mut PassContext) -> Vec<Outcome> {
    let threads = cx.threads();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    let jobs: Vec<&Job> = plan.jobs().collect();
    let mut outcomes = Vec::with_capacity(jobs.len());
    // In portions, to say in between how far it has come.
    for portion in jobs.chunks(16 * threads) {
        cx.progress("weights", outcomes.len(), jobs.len());
        outcomes.extend(match &pool {
            Ok(pool) if threads > 1 => {
                pool.install(|| portion.par_iter().map(|job| quantize_one(job)).collect())
            }
            _ => portion
                .iter()
                .map(|job| quantize_one(job))
                .collect::<Vec<_>>(),
        });
    }
    outcomes
}

fn quantize_one(job: &Job) -> Outcome {
    let weight = quantize_weight(&job.tensor, &job.spec)?;
    // Not needed again.
    job.tensor.release();
    let steps = job.merged_channels.and_then(|axis| steps(&weight, axis));
    Ok(Codes { weight, steps })
}

/// Warns of weights that one scale does not do justice.
fn warn_of_lost_channels(plan: &Plan, outcomes: &[Outcome], cx: &mut PassContext) {
    let steps = |outcome: &Outcome| outcome.as_ref().ok()?.steps.filter(|s| s.are_lost());
    let jobs = plan.jobs().zip(outcomes);
    let lost: Vec<(&Job, Steps)> = jobs
        .filter_map(|(job, outcome)| Some((job, steps(outcome)?)))
        .collect();
    let Some((job, Steps { median, all })) = lost.first() else {
        return;
    };
    let more = match lost.len() - 1 {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    cx.warning(format_args!(
        "one scale for all channels of weight `{}`{more} leaves half of them at most {median} of \
         {all} steps: try `per-channel`",
        job.name
    ));
}

/// Nodes with a weight that could not be quantized stay as they are.
fn fail_rows(plan: &Plan, outcomes: &[Outcome], rows: &mut [Row]) {
    for u in plan.graphs.iter().flatten() {
        if let Err(error) = &outcomes[u.job] {
            rows[u.row].status = Status::Skipped(format!("the weight: {error}").into());
        }
    }
}

/// Puts the codes into the graphs; returns how many weights there are in codes.
fn insert(
    model: &mut Model,
    settings: &Settings,
    plan: &Plan,
    outcomes: &[Outcome],
    rows: &mut [Row],
    cx: &mut PassContext,
) -> usize {
    let mut done = IndexSet::new();
    let mut graphs = plan.graphs.iter();
    select::for_each_graph(settings, &mut model.graph, |graph| {
        let uses = graphs.next().map_or(&[][..], Vec::as_slice);
        let mut inserter = Inserter {
            graph,
            plan,
            outcomes,
            placed: IndexMap::new(),
        };
        inserter.run(uses, rows, cx);
        done.extend(inserter.placed.keys().map(|(job, _)| *job));
    });
    done.len()
}

struct Inserter<'a> {
    graph: &'a mut Graph,
    plan: &'a Plan,
    outcomes: &'a [Outcome],
    /// What stands for a job in this graph, in each shape that it is used in.
    placed: IndexMap<(usize, Option<Dims>), ValueId>,
}

impl Inserter<'_> {
    fn run(&mut self, uses: &[WeightUse], rows: &mut [Row], cx: &mut PassContext) {
        let mut stand_in: IndexMap<ValueId, ValueId> = IndexMap::new();
        for u in uses {
            let row = &mut rows[u.row];
            if !matches!(row.status, Status::Quantized) {
                continue;
            }
            let Some(dequantized) = self.place(u.job, u.dims.as_ref(), u.source, cx) else {
                row.status = Status::Skipped("the limit of rewrites is reached".into());
                continue;
            };
            if let Ok(Codes { weight: q, .. }) = &self.outcomes[u.job] {
                row.after += q.data.byte_len() + q.scale.byte_len() + q.zero_point.byte_len();
            }
            if self.graph.unlist_constant(u.source) {
                let name = &self.graph.node(u.source).results[0].name;
                cx.verbose(format_args!(
                    "weight `{name}` is no longer an input with a default"
                ));
            }
            self.graph.set_operand(u.node, u.operand, Some(dequantized));
            stand_in.entry(u.value).or_insert(dequantized);
        }
        self.find_copies(&mut stand_in, cx);
        let ret = self.graph.ret();
        for (value, dequantized) in stand_in {
            let others = |u: onnxq_ir::Use| u.node != ret;
            self.graph.replace_uses_if(value, dequantized, others);
        }
    }

    /// Adds the constants of this graph that are quantized for the sake of other graphs.
    fn find_copies(&mut self, stand_in: &mut IndexMap<ValueId, ValueId>, cx: &mut PassContext) {
        let constants: Vec<NodeId> = self.graph.order();
        for n in constants {
            let Some(tensor) = self.graph.node(n).tensor() else {
                continue;
            };
            let v = self.graph.result(n, 0);
            let Some(job) = self.plan.job_of(tensor) else {
                continue;
            };
            let fixed = !self.graph.inputs().contains(&n);
            let open = self.graph.is_used(v) && !stand_in.contains_key(&v);
            if fixed
                && open
                && let Some(dequantized) = self.place(job, None, n, cx)
            {
                stand_in.insert(v, dequantized);
            }
        }
    }

    /// The value that stands for a job, added if need be; `None` past the limit of rewrites, and
    /// where the job failed.
    fn place(
        &mut self,
        job: usize,
        dims: Option<&Dims>,
        source: NodeId,
        cx: &mut PassContext,
    ) -> Option<ValueId> {
        let key = (job, dims.cloned());
        if let Some(&v) = self.placed.get(&key) {
            return Some(v);
        }
        let q = &self.outcomes[job].as_ref().ok()?.weight;
        let job = self.plan.jobs().nth(job)?;
        if !cx.begin_rewrite(INFO.name, &job.name) {
            return None;
        }
        let sunk = match &self.graph.node(source).kind {
            NodeKind::Constant(c) => c.sunk,
            _ => false,
        };
        let name = &job.name;
        let mut constant = |suffix: &str, tensor: &Tensor| {
            let value = Value::new(format!("{name}_{suffix}"), None);
            let literal = Literal::Dense(tensor.clone());
            self.graph.add_literal(value, literal, sunk)
        };
        let operands = [
            constant("quantized", &q.data),
            constant("scale", &q.scale),
            constant("zero_point", &q.zero_point),
        ]
        .map(Some);
        let mut op = Op::new("DequantizeLinear");
        if let Granularity::PerChannel { axis } = job.spec.granularity {
            op = op.with("axis", axis);
        }
        let ty = |dims: &[usize]| Some(Type::dense(job.tensor.dtype(), dims));
        let result = Value::new(format!("{name}_DequantizeLinear_Output"), ty(q.data.dims()));
        let node = format!("{name}_DequantizeLinear");
        let n = self.graph.add_node(node, op, &operands, [result]);
        let mut v = self.graph.result(n, 0);
        if let Some(dims) = dims {
            let shape = dims.iter().map(|&d| d as i64).collect();
            let shape = Tensor::vector::<i64>(shape);
            let shape = self.graph.add_constant(format!("{name}_shape"), shape);
            let result = Value::new(format!("{name}_Reshape_Output"), ty(dims));
            let operands = [Some(v), Some(shape)];
            let node = format!("{name}_Reshape");
            let n = self
                .graph
                .add_node(node, Op::new("Reshape"), &operands, [result]);
            v = self.graph.result(n, 0);
        }
        self.placed.insert(key, v);
        Some(v)
    }
}
