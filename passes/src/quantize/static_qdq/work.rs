//! The whole of static quantization of a model, from marks to what is written, graph by graph.

use std::collections::{HashMap, HashSet};

use indexmap::IndexMap;
use onnxq_ir::{Graph, Model, NodeId, Op, ValueId};
use onnxq_pass::{PassContext, PassError, describe};
use onnxq_quant::{Granularity, Ranges};

use super::{
    super::{
        insert_static_qdq::INFO,
        options::complain,
        report::{self, Row, Status},
        source::RangeRequest,
    },
    marks::{self, Constraints, Marks},
    masks::{self, Masked},
    parameters::{self, Parameters},
    ranges::{self, RangeOf},
    settings::StaticSettings,
    warnings::{self, Figures, WideInput},
    weights::{Codes, Jobs, make_room},
    write::{self, Plan, Written},
};

/// How often nodes are looked at again without those that have no ranges.
const MAX_ROUNDS: usize = 32;

/// What is to be done, graph by graph, regions first.
pub(in crate::quantize) struct Work<'a> {
    settings: &'a StaticSettings,
    opset: i64,
    graphs: Vec<GraphWork>,
}

#[derive(Default)]
struct GraphWork {
    constraints: Constraints,
    marks: Marks,
    parameters: Parameters,
    /// The rows of the report.
    rows: Vec<Row>,
}

impl<'a> Work<'a> {
    pub(in crate::quantize) fn new(model: &Model, settings: &'a StaticSettings) -> Work<'a> {
        Work::with(model, settings, Vec::new())
    }

    /// The marks of each graph.
    pub(in crate::quantize) fn marks(&self) -> Vec<&Marks> {
        self.graphs.iter().map(|g| &g.marks).collect()
    }

    /// With nodes that stay float, graph by graph.
    pub(in crate::quantize) fn with(
        model: &Model,
        settings: &'a StaticSettings,
        left: Vec<HashSet<NodeId>>,
    ) -> Work<'a> {
        let opset = model.opset("").unwrap_or(1);
        let mut work = Work {
            settings,
            opset,
            graphs: Vec::new(),
        };
        let mut graphs = Vec::new();
        let mut left = left.into_iter();
        work.for_each_graph(model, |graph| {
            let constraints = Constraints {
                left: left.next().unwrap_or_default(),
                ..Constraints::default()
            };
            let marks = marks::mark(graph, settings, opset, &constraints);
            graphs.push(GraphWork {
                constraints,
                marks,
                ..GraphWork::default()
            });
        });
        work.graphs = graphs;
        work
    }

    fn for_each_graph(&self, model: &Model, mut visit: impl FnMut(&Graph)) {
        match self.settings.subgraphs {
            true => model.graph.for_each_graph(&mut visit),
            false => visit(&model.graph),
        }
    }

    pub(in crate::quantize) fn least_opset(&self) -> i64 {
        let least = |work: &GraphWork| match work.marks.tensors.is_empty() {
            true => 0,
            false => write::least_opset(self.settings, &work.marks),
        };
        self.graphs.iter().map(least).max().unwrap_or(0)
    }

    /// What is to be known of the model.
    pub(in crate::quantize) fn request(&self, model: &Model) -> RangeRequest {
        let mut tensors = IndexMap::new();
        let mut graphs = self.graphs.iter();
        self.for_each_graph(model, |graph| {
            let Some(work) = graphs.next() else {
                return;
            };
            let needed = ranges::needed(graph, self.settings, &work.marks, &work.constraints);
            for from in needed.values() {
                let &RangeOf::Tensor(v) = from else {
                    continue;
                };
                let axis = warnings::feature_axis(graph, v, &self.settings.calibration.method);
                tensors.entry(graph.value(v).name.clone()).or_insert(axis);
            }
        });
        RangeRequest {
            tensors,
            spec: self.settings.calibration,
        }
    }

    /// Computes parameters; where there can be none, or where they are not what a removed Relu
    /// does, marks the graph anew without those nodes.
    pub(in crate::quantize) fn settle(
        &mut self,
        model: &Model,
        known: &Ranges,
        cx: &mut PassContext,
    ) -> Result<(), PassError> {
        let settings = self.settings;
        let opset = self.opset;
        let mut graphs = std::mem::take(&mut self.graphs);
        let mut works = graphs.iter_mut();
        let mut missing: Vec<String> = Vec::new();
        let mut lost = 0;
        let mut failure = None;
        let mut wide: Vec<WideInput> = Vec::new();
        let mut masked: Vec<Masked> = Vec::new();
        let leave_wide = !settings.compat && settings.nodes.is_none();
        let mut figures = Figures::default();
        self.for_each_graph(model, |graph| {
            let Some(work) = works.next() else {
                return;
            };
            let inputs = warnings::wide_inputs(graph, &work.marks, known);
            if leave_wide && !inputs.is_empty() {
                let users = inputs.iter().flat_map(|i| i.users.iter().copied());
                work.constraints.left.extend(users);
                work.marks = marks::mark(graph, settings, opset, &work.constraints);
            }
            wide.extend(inputs);
            if leave_wide {
                let inputs = masks::masked(graph, settings, &work.marks, known);
                let nodes = inputs.iter().flat_map(|i| i.nodes.iter().copied());
                work.constraints.left.extend(nodes);
                if !inputs.is_empty() {
                    work.marks = marks::mark(graph, settings, opset, &work.constraints);
                }
                masked.extend(inputs);
            }
            for round in 0.. {
                match parameters::parameters(graph, settings, &work.marks, &work.constraints, known)
                {
                    Ok(parameters) => work.parameters = parameters,
                    Err(e) => {
                        failure.get_or_insert(e);
                        return;
                    }
                }
                let found = &work.parameters;
                if found.missing.is_empty() && found.needed.is_empty() {
                    break;
                }
                if round == MAX_ROUNDS {
                    work.constraints
                        .excluded
                        .extend(work.marks.nodes.keys().copied());
                }
                for &v in &found.missing {
                    missing.push(graph.value(v).name.clone());
                    let askers = &work.marks.tensors[&v].askers;
                    work.constraints.excluded.extend(askers.iter().copied());
                }
                work.constraints.kept.extend(found.needed.iter().copied());
                work.marks = marks::mark(graph, settings, opset, &work.constraints);
            }
            lost += work.constraints.excluded.len();
            work.rows = rows(graph, &work.marks, &work.constraints);
            figures.add(graph, &work.marks);
        });
        drop(works);
        self.graphs = graphs;
        if let Some(message) = failure {
            return Err(PassError::new(message));
        }
        warnings::of_wide_inputs(&wide, leave_wide, cx);
        masks::of_masked(&masked, cx);
        warn_of_missing(&missing, lost, cx);
        figures.warn(settings, cx);
        Ok(())
    }

    /// Quantizes constants and writes everything.
    pub(in crate::quantize) fn write(
        &mut self,
        model: &mut Model,
        cx: &mut PassContext,
    ) -> Result<Written, PassError> {
        let settings = self.settings;
        let mut jobs = Jobs::default();
        // By graph: the job of each constant.
        let mut uses: Vec<HashMap<ValueId, usize>> = Vec::new();
        let mut works = self.graphs.iter();
        self.for_each_graph(model, |graph| {
            let mut of_graph = HashMap::new();
            let marks = works.next().map(|work| &work.marks.tensors);
            for (&v, mark) in marks.into_iter().flatten() {
                if let Some(tensor) = &mark.constant {
                    let name = &graph.value(v).name;
                    of_graph.insert(v, jobs.add(settings, name, tensor, mark));
                }
            }
            uses.push(of_graph);
        });
        let mut codes = jobs.run(cx.threads());
        for (i, outcome) in codes.iter().enumerate() {
            if let (Err(e), Some(job)) = (outcome, jobs.get(i)) {
                return Err(PassError::new(format_args!(
                    "constant `{}` cannot be quantized: {e}",
                    job.name
                )));
            }
        }
        let enlarged = self.make_room(model, &jobs, &uses, &mut codes)?;
        warn_of_large_biases(&enlarged, settings, cx);
        let mut written = Written::default();
        let mut graphs = self.graphs.iter().zip(&uses);
        let mut visit = |graph: &mut Graph| {
            let Some((work, uses)) = graphs.next() else {
                return;
            };
            let of = |(&v, &job): (&ValueId, &usize)| Some((v, codes[job].as_ref().ok()?));
            let codes = uses.iter().filter_map(of).collect();
            let plan = Plan::new(
                graph,
                settings,
                &work.marks,
                &work.parameters,
                codes,
                INFO.name,
            );
            let more = write::write(graph, &plan, cx);
            written.activations += more.activations;
            written.weights += more.weights;
            written.biases += more.biases;
            written.saturated += more.saturated;
        };
        match settings.subgraphs {
            true => model.graph.for_each_graph_mut(&mut visit),
            false => visit(&mut model.graph),
        }
        Ok(written)
    }

    /// Enlarges scales of weights where biases need it; the names of the weights.
    fn make_room(
        &self,
        model: &Model,
        jobs: &Jobs,
        uses: &[HashMap<ValueId, usize>],
        codes: &mut [Result<Codes, onnxq_quant::Error>],
    ) -> Result<Vec<String>, PassError> {
        let settings = self.settings;
        let mut enlarged = Vec::new();
        if !settings.adjust_weights {
            return Ok(enlarged);
        }
        let mut failure = None;
        let mut graphs = self.graphs.iter().zip(uses);
        self.for_each_graph(model, |graph| {
            let Some((work, uses)) = graphs.next() else {
                return;
            };
            let known = uses
                .iter()
                .filter_map(|(&v, &job)| Some((v, codes[job].as_ref().ok()?)));
            let scales: Vec<Option<f32>> = {
                let plan = Plan::new(
                    graph,
                    settings,
                    &work.marks,
                    &work.parameters,
                    known.collect(),
                    INFO.name,
                );
                let scale = |place: &Option<_>| {
                    let scale = plan.scale(graph, (*place)?)?;
                    scale.to_f32s().ok()?.first().copied()
                };
                plan.bias_inputs.iter().map(scale).collect()
            };
            for (bias, scale) in work.marks.biases.iter().zip(scales) {
                let (Some(scale), Some(&job)) = (scale, uses.get(&bias.weight)) else {
                    continue;
                };
                let channels = (self.opset >= 13)
                    .then(|| channels(graph, bias, jobs, job))
                    .flatten();
                let (Some(job), Ok(codes)) = (jobs.get(job), &mut codes[job]) else {
                    continue;
                };
                match make_room(job, codes, &bias.tensor, scale, channels, settings) {
                    Ok(true) => enlarged.push(job.name.clone()),
                    Ok(false) => {}
                    Err(e) => {
                        let name = &graph.value(bias.value).name;
                        failure.get_or_insert(format!("bias `{name}`: {e}"));
                    }
                }
            }
        });
        match failure {
            Some(message) => Err(PassError::new(message)),
            None => Ok(enlarged),
        }
    }

    pub(in crate::quantize) fn report(
        &self,
        cx: &mut PassContext,
        written: Written,
        before: usize,
        after: usize,
    ) {
        let rows: Vec<Row> = self.graphs.iter().flat_map(|g| g.rows.clone()).collect();
        report::rows(cx, &rows);
        report::static_summary(cx, &rows, written, before, after);
    }
}

/// The axis of the weight of a bias that runs over the elements of the bias.
fn channels(graph: &Graph, bias: &marks::Bias, jobs: &Jobs, job: usize) -> Option<usize> {
    let op = graph.op(bias.node)?;
    let role = onnxq_ops::lookup(&op.domain, &op.op_type)?.quant(op);
    let onnxq_ops::QuantRole::Affine { channel_axis, .. } = role else {
        return None;
    };
    let axis = usize::try_from(channel_axis).ok()?;
    let job = jobs.get(job)?;
    if job.spec.granularity != Granularity::PerTensor || job.tensor.rank() < 2 {
        return None;
    }
    (job.tensor.dims()[axis] == bias.tensor.len()).then_some(axis)
}

fn rows(graph: &Graph, marks: &Marks, constraints: &Constraints) -> Vec<Row> {
    let row = |(&n, &takes_part): (&NodeId, &bool)| Row {
        graph: graph.name.clone(),
        node: describe(graph, n).to_string(),
        op: graph.op(n).map_or_else(String::new, Op::qualified),
        weights: graph
            .operands(n)
            .into_iter()
            .flatten()
            .filter(|v| marks.tensors.get(v).is_some_and(|m| m.constant.is_some()))
            .map(|v| graph.value(v).name.clone())
            .collect(),
        before: 0,
        after: 0,
        status: match takes_part {
            true => Status::Quantized,
            _ if constraints.left.contains(&n) => {
                Status::Skipped("the channels of its input differ too much in range".into())
            }
            _ if constraints.excluded.contains(&n) => {
                Status::Skipped("a tensor of it has no range".into())
            }
            _ => Status::Skipped("what comes in is not quantized".into()),
        },
    };
    marks.nodes.iter().map(row).collect()
}

fn warn_of_missing(missing: &[String], nodes: usize, cx: &mut PassContext) {
    if let Some(list) = complain::few(missing) {
        let plural = if nodes == 1 { "" } else { "s" };
        cx.warning(format_args!(
            "there is no range for {list}: {nodes} node{plural} stay float; calibrate this model, \
             as it is before `quantize`"
        ));
    }
}

fn warn_of_large_biases(weights: &[String], settings: &StaticSettings, cx: &mut PassContext) {
    if let Some(list) = complain::few(weights) {
        let how = match settings.compat || settings.per_channel {
            true => "the scale of its weight is enlarged",
            false => "those channels of its weight have larger scales of their own",
        };
        cx.warning(format_args!(
            "a bias is too large for int32 at the scale of weight {list}: {how}"
        ));
    }
}
