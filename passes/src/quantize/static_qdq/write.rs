//! Puts QuantizeLinear and DequantizeLinear into a graph.
//!
//! Names are those that the quantization tool of ONNX Runtime gives. There is one pair for each
//! tensor. All users share it, those too that are not quantized, so that what computes the tensor
//! gives codes and nothing else; unless that computes floats anyway, or is an input of the graph:
//! then they go on reading those (but not with `compat`). `dedicated-qdq` gives each quantized
//! user a pair of its own.

use std::collections::HashMap;

use onnxq_ir::{Graph, NodeId, NodeKind, Op, Type, Use, Value, ValueId, def::Literal};
use onnxq_pass::{PassContext, describe};
use onnxq_quant::{Granularity, QuantType};
use onnxq_tensor::{DType, Tensor};

use super::{
    marks::{Bias, Mark, Marks, Source},
    parameters::{Activation, Encoding, Parameters, Place, Places},
    settings::StaticSettings,
    weights::Codes,
};

/// What is to be written into a graph.
pub(in crate::quantize) struct Plan<'a> {
    pub(in crate::quantize) settings: &'a StaticSettings,
    pub(in crate::quantize) marks: &'a Marks,
    pub(in crate::quantize) parameters: &'a Parameters,
    /// Where each tensor of `marks` has its parameters.
    pub(in crate::quantize) places: HashMap<ValueId, Place>,
    /// The same of each bias: of its input, in the eyes of its node.
    pub(in crate::quantize) bias_inputs: Vec<Option<Place>>,
    pub(in crate::quantize) bias_weights: Vec<Option<Place>>,
    /// The codes of the constants among the tensors.
    pub(in crate::quantize) codes: HashMap<ValueId, &'a Codes>,
    pub(in crate::quantize) pass: &'static str,
}

/// What was written.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::quantize) struct Written {
    pub(in crate::quantize) activations: usize,
    pub(in crate::quantize) weights: usize,
    pub(in crate::quantize) biases: usize,
    /// Biases that were cut off at the ends of `int32`.
    pub(in crate::quantize) saturated: usize,
}

impl<'a> Plan<'a> {
    /// Finds where everything has its parameters.
    pub(in crate::quantize) fn new(
        graph: &Graph,
        settings: &'a StaticSettings,
        marks: &'a Marks,
        parameters: &'a Parameters,
        codes: HashMap<ValueId, &'a Codes>,
        pass: &'static str,
    ) -> Plan<'a> {
        let mut places = Places::new(graph, marks, parameters);
        let of_tensors = marks.tensors.keys();
        let found = of_tensors.filter_map(|&v| Some((v, places.original(v)?)));
        let found = found.collect();
        let mut side = |of: fn(&Bias) -> ValueId| {
            let place = |b: &Bias| places.of(of(b), b.node);
            marks.biases.iter().map(place).collect()
        };
        Plan {
            settings,
            marks,
            parameters,
            places: found,
            bias_inputs: side(|b| b.input),
            bias_weights: side(|b| b.weight),
            codes,
            pass,
        }
    }

    /// The scale at a place.
    pub(in crate::quantize) fn scale(&self, graph: &Graph, place: Place) -> Option<Tensor> {
        let of = |e: &Encoding| e.tensors().ok().map(|(scale, _)| scale);
        match place {
            Place::Own(v) => match self.codes.get(&v) {
                Some(codes) => Some(codes.weight.scale.clone()),
                None => of(&self.parameters.activations.get(&v)?.encoding),
            },
            Place::Converted(v) => of(&self.conversion(v)?.0),
            Place::Existing(n) => graph.tensor(graph.operand(n, 1)?).cloned(),
        }
    }

    fn conversion(&self, v: ValueId) -> Option<&(Encoding, Option<Vec<String>>)> {
        let own = self.parameters.activations.get(&v);
        let own = own.and_then(|a: &Activation| a.converted.as_ref());
        own.or_else(|| self.parameters.conversions.get(&v))
    }
}

/// Writes it.
pub(in crate::quantize) fn write(
    graph: &mut Graph,
    plan: &Plan<'_>,
    cx: &mut PassContext,
) -> Written {
    let ids = graph.node_ids();
    let named = ids.map(|n| (graph.node(n).name.clone(), 1)).collect();
    let mut writer = Writer {
        graph,
        plan,
        now: HashMap::new(),
        constants: HashMap::new(),
        named,
        written: Written::default(),
    };
    writer.run(cx);
    writer.written
}

/// A graph that is being written into.
pub(super) struct Writer<'a, 'b> {
    pub(super) graph: &'a mut Graph,
    pub(super) plan: &'a Plan<'b>,
    /// What has taken the place of the results of removed nodes.
    now: HashMap<ValueId, ValueId>,
    /// Scale and zero point that stand in the graph.
    constants: HashMap<Place, (ValueId, Option<ValueId>)>,
    /// How many nodes there are to be of a name.
    named: HashMap<String, usize>,
    pub(super) written: Written,
}

impl Writer<'_, '_> {
    fn run(&mut self, cx: &mut PassContext) {
        for &n in &self.plan.marks.removed {
            if !cx.begin_rewrite(self.plan.pass, describe(self.graph, n)) {
                return;
            }
            self.remove(n);
        }
        for (&v, mark) in &self.plan.marks.tensors {
            let (Some(&place), Some(name)) = (self.plan.places.get(&v), self.name(v)) else {
                continue;
            };
            if !cx.begin_rewrite(self.plan.pass, name) {
                return;
            }
            match (&mark.constant, self.plan.codes.get(&v)) {
                (Some(tensor), Some(codes)) => self.constant(v, tensor, codes, cx),
                (Some(_), None) => {}
                (None, _) => self.activation(v, mark, place),
            }
        }
        self.biases(cx);
        for &(n, i, v) in &self.plan.marks.rejoined {
            if !cx.begin_rewrite(self.plan.pass, describe(self.graph, n)) {
                return;
            }
            self.graph.set_operand(n, i, Some(v));
        }
    }

    fn name(&self, v: ValueId) -> Option<String> {
        Some(self.graph.value(self.now(v)).name.clone())
    }

    /// Whether a node is quantized.
    fn takes_part(&self, n: NodeId) -> bool {
        let marks = self.plan.marks;
        marks.nodes.get(&n) == Some(&true) || marks.guarded.contains(&n)
    }

    fn now(&self, v: ValueId) -> ValueId {
        *self.now.get(&v).unwrap_or(&v)
    }

    /// Takes out a Relu or Clip: what it limits gets its name.
    fn remove(&mut self, n: NodeId) {
        let Some(x) = self.graph.operand(n, 0) else {
            return;
        };
        let y = self.graph.result(n, 0);
        let value = self.graph.value(y).clone();
        self.graph.replace_uses(y, x);
        *self.graph.value_mut(x) = value;
        self.now.insert(y, x);
        self.graph.set_operands(n, &[]);
    }

    fn op(&self, op_type: &str, granularity: Granularity) -> Op {
        let domain = if self.plan.settings.contrib {
            "com.microsoft"
        } else {
            ""
        };
        let op = Op::in_domain(domain, op_type);
        match granularity {
            Granularity::PerTensor => op,
            Granularity::PerChannel { axis } => op.with("axis", axis),
            Granularity::Blocked { axis, block } => {
                op.with("axis", axis).with("block_size", block as i64)
            }
        }
    }

    /// A name for a node: values may share theirs, and ONNX Runtime refuses nodes that do.
    fn unique(&mut self, base: String) -> String {
        let mut name = base.clone();
        while self.named.contains_key(&name) {
            let count = self.named.entry(base.clone()).or_insert(1);
            name = format!("{base}_{count}");
            *count += 1;
        }
        self.named.insert(name.clone(), 1);
        name
    }

    fn typed(&self, v: ValueId, dtype: DType) -> Option<Type> {
        let shape = self.graph.ty(v).and_then(Type::shape).cloned();
        Some(Type::tensor(dtype, shape))
    }

    /// `QuantizeLinear` of `x`.
    fn quantize(
        &mut self,
        x: ValueId,
        name: &str,
        postfix: &str,
        (scale, zero): (ValueId, Option<ValueId>),
        granularity: Granularity,
    ) -> ValueId {
        let dtype = zero
            .and_then(|z| self.graph.ty(z)?.dtype())
            .unwrap_or(DType::U8);
        let result = format!("{name}_QuantizeLinear_Output{postfix}");
        let result = Value::new(result, self.typed(x, dtype));
        let op = self.op("QuantizeLinear", granularity);
        let node = self.unique(format!("{name}_QuantizeLinear{postfix}"));
        let operands = [Some(x), Some(scale), zero];
        let count = 2 + usize::from(zero.is_some());
        let n = self.graph.add_node(node, op, &operands[..count], [result]);
        self.graph.result(n, 0)
    }

    /// `DequantizeLinear` of `codes`, of which the type and shape are those of `like`.
    pub(super) fn dequantize(
        &mut self,
        codes: ValueId,
        ty: Option<Type>,
        node: String,
        result: String,
        (scale, zero): (ValueId, Option<ValueId>),
        granularity: Granularity,
    ) -> ValueId {
        let op = self.op("DequantizeLinear", granularity);
        let node = self.unique(node);
        let operands = [Some(codes), Some(scale), zero];
        let count = 2 + usize::from(zero.is_some());
        let result = Value::new(result, ty);
        let n = self.graph.add_node(node, op, &operands[..count], [result]);
        self.graph.result(n, 0)
    }

    /// Scale and zero point at a place, put into the graph if need be.
    fn parameters(&mut self, place: Place) -> Option<(ValueId, Option<ValueId>)> {
        if let Some(&found) = self.constants.get(&place) {
            return Some(found);
        }
        let found = match place {
            Place::Existing(n) => (self.graph.operand(n, 1)?, self.graph.operand(n, 2)),
            Place::Own(v) => {
                let encoding = self.plan.parameters.activations.get(&v)?.encoding;
                self.encoding(v, encoding, "")?
            }
            Place::Converted(v) => {
                let encoding = self.plan.conversion(v)?.0;
                self.encoding(v, encoding, "_convert")?
            }
        };
        self.constants.insert(place, found);
        Some(found)
    }

    fn encoding(
        &mut self,
        v: ValueId,
        encoding: Encoding,
        suffix: &str,
    ) -> Option<(ValueId, Option<ValueId>)> {
        let name = self.name(v)?;
        let (scale, zero) = encoding.tensors().ok()?;
        let zero = self
            .graph
            .add_constant(format!("{name}_zero_point{suffix}"), zero);
        let scale = self
            .graph
            .add_constant(format!("{name}_scale{suffix}"), scale);
        Some((scale, Some(zero)))
    }

    /// Quantizes and dequantizes what is computed.
    fn activation(&mut self, v: ValueId, mark: &Mark, place: Place) {
        let Some(params) = self.parameters(place) else {
            return;
        };
        let converted = self.plan.conversion(v).map(|(_, users)| users.clone());
        let x = self.now(v);
        let Some(name) = self.name(v) else {
            return;
        };
        let ret = self.graph.ret();
        let gives_codes = self.takes_part(x.node) || self.plan.settings.compat;
        // The signature of an input that is a result as well stays what it is.
        let is_input = self.graph.node(x.node).is_input();
        let uses = self.graph.uses(x);
        let uses: Vec<Use> = uses
            .into_iter()
            .filter(|u| gives_codes || self.takes_part(u.node))
            .filter(|u| u.node != ret || !is_input)
            .collect();
        if uses.is_empty() {
            return;
        }
        let is_output = uses.iter().any(|u| u.node == ret);
        let ty = self.typed(x, mark.float.dtype());
        self.written.activations += 1;
        if self.plan.settings.dedicated && self.dedicated(x, &name, &uses, params, &ty) {
            return;
        }
        if is_output {
            self.graph.value_mut(x).name = format!("{name}_QuantizeLinear_Input");
        }
        let codes = self.quantize(x, &name, "", params, Granularity::PerTensor);
        let to_result = |last: bool| match is_output && last {
            true => name.clone(),
            false => format!("{name}_DequantizeLinear_Output"),
        };
        let Some(users) = converted else {
            let node = format!("{name}_DequantizeLinear");
            let back = self.dequantize(
                codes,
                ty,
                node,
                to_result(true),
                params,
                Granularity::PerTensor,
            );
            for u in uses {
                self.graph
                    .set_operand(u.node, u.operand as usize, Some(back));
            }
            return;
        };
        self.convert(v, &name, codes, ty, params, &uses, users, to_result);
    }

    /// Some users, or all, get another type: what is dequantized is quantized anew.
    #[expect(clippy::too_many_arguments, reason = "the parts of one pair")]
    fn convert(
        &mut self,
        v: ValueId,
        name: &str,
        codes: ValueId,
        ty: Option<Type>,
        params: (ValueId, Option<ValueId>),
        uses: &[Use],
        users: Option<Vec<String>>,
        to_result: impl Fn(bool) -> String,
    ) {
        let Some(other) = self.parameters(Place::Converted(v)) else {
            return;
        };
        let ret = self.graph.ret();
        let receives = |graph: &Graph, u: &Use| match &users {
            None => u.node != ret || uses.iter().all(|u| u.node == ret),
            Some(names) => u.node != ret && names.contains(&graph.node(u.node).name),
        };
        let (convert, keep): (Vec<Use>, Vec<Use>) =
            uses.iter().partition(|u| receives(self.graph, u));
        let all = keep.iter().all(|u| u.node == ret);
        let one = Granularity::PerTensor;
        let node = format!("{name}_DequantizeLinear");
        let back = self.dequantize(codes, ty.clone(), node, to_result(!all), params, one);
        let again = if all {
            back
        } else {
            let node = format!("{name}_convert_clone_DequantizeLinear");
            let result = format!("{name}_convert_QuantizeLinear_Input");
            self.dequantize(codes, ty.clone(), node, result, params, one)
        };
        let converted = format!("{name}_convert");
        let codes = self.quantize(again, &converted, "", other, one);
        let result = match all && uses.iter().any(|u| u.node == ret) {
            true => to_result(true),
            false => format!("{converted}_DequantizeLinear_Output"),
        };
        let node = format!("{converted}_DequantizeLinear");
        let other = self.dequantize(codes, ty, node, result, other, one);
        for u in convert {
            self.graph
                .set_operand(u.node, u.operand as usize, Some(other));
        }
        for u in keep {
            let v = if all { other } else { back };
            self.graph.set_operand(u.node, u.operand as usize, Some(v));
        }
    }

    /// A pair for each quantized user, if there is more than one; the others read floats.
    fn dedicated(
        &mut self,
        x: ValueId,
        name: &str,
        uses: &[Use],
        params: (ValueId, Option<ValueId>),
        ty: &Option<Type>,
    ) -> bool {
        let mut users: Vec<NodeId> = Vec::new();
        for n in self.plan.marks.nodes.keys() {
            // In the order of the graph.
            users.extend(uses.iter().map(|u| u.node).find(|u| u == n));
        }
        if users.len() < 2 {
            return false;
        }
        for (i, n) in users.into_iter().enumerate() {
            let postfix = format!("_{}", i + 1);
            let codes = self.quantize(x, name, &postfix, params, Granularity::PerTensor);
            let node = format!("{name}_DequantizeLinear{postfix}");
            let result = format!("{name}_DequantizeLinear_Output{postfix}");
            let one = Granularity::PerTensor;
            let back = self.dequantize(codes, ty.clone(), node, result, params, one);
            for u in uses.iter().filter(|u| u.node == n) {
                self.graph.set_operand(n, u.operand as usize, Some(back));
            }
        }
        true
    }

    /// Puts a constant into codes, for all its users.
    fn constant(&mut self, v: ValueId, tensor: &Tensor, codes: &Codes, cx: &mut PassContext) {
        let Some(name) = self.name(v) else {
            return;
        };
        let sunk = match &self.graph.node(v.node).kind {
            NodeKind::Constant(c) => c.sunk,
            _ => false,
        };
        if self.graph.unlist_constant(v.node) {
            cx.verbose(format_args!(
                "weight `{name}` is no longer an input with a default"
            ));
        }
        let ret = self.graph.ret();
        let uses = self.graph.uses(v);
        let uses: Vec<Use> = uses.into_iter().filter(|u| u.node != ret).collect();
        let mut add = |suffix: &str, tensor: &Tensor| {
            let value = Value::new(format!("{name}_{suffix}"), None);
            self.graph
                .add_literal(value, Literal::Dense(tensor.clone()), sunk)
        };
        let zero = add("zero_point", &codes.weight.zero_point);
        let scale = add("scale", &codes.weight.scale);
        let params = (scale, Some(zero));
        let quantized = if self.plan.settings.qdq_weights {
            self.quantize(v, &name, "", params, codes.granularity)
        } else {
            add("quantized", &codes.weight.data)
        };
        self.constants.insert(Place::Own(v), params);
        let ty = Some(Type::dense(tensor.dtype(), tensor.dims()));
        let node = format!("{name}_DequantizeLinear");
        let result = format!("{name}_DequantizeLinear_Output");
        let back = self.dequantize(quantized, ty, node, result, params, codes.granularity);
        for u in uses {
            self.graph
                .set_operand(u.node, u.operand as usize, Some(back));
        }
        self.written.weights += 1;
    }
}

/// The least opset that a graph can be written in.
pub(in crate::quantize) fn least_opset(settings: &StaticSettings, marks: &Marks) -> i64 {
    let wide = |t: QuantType| {
        matches!(
            t,
            QuantType::Int16 | QuantType::UInt16 | QuantType::Int4 | QuantType::UInt4
        )
    };
    let mut least = 12;
    for mark in marks.tensors.values() {
        let is_weight = matches!(mark.source, Source::Weight { .. });
        if matches!(mark.source, Source::Weight { axis: Some(_) }) {
            least = least.max(13);
        }
        let qtype = match is_weight {
            true => settings.weight_type,
            false => settings.activation_type,
        };
        if settings.contrib {
            continue;
        }
        if mark.float.dtype() != DType::F32 || qtype == QuantType::Float8E4M3FN {
            least = least.max(19);
        }
        if wide(qtype) || is_weight && settings.block_size > 0 {
            least = least.max(21);
        }
    }
    if !settings.contrib && !marks.tensors.is_empty() && settings.overrides.types().any(wide) {
        least = least.max(21);
    }
    least
}
