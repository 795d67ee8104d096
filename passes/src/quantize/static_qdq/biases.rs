//! Puts biases into codes of `int32`, at the scale of the sums that they are added to.
//!
//! A bias that several nodes use is copied, since each has a scale of its own. The `beta` of a Gemm
//! goes into the codes, its `alpha` into the scale. A bias stays float where the scale of what is
//! multiplied is computed, or is not one for each channel.

use std::collections::HashMap;

use onnxq_ir::{NodeKind, Type, Value, ValueId, def::Literal};
use onnxq_pass::{PassContext, describe};
use onnxq_quant::{FloatType, Granularity, quantize_bias, scale_tensor};
use onnxq_tensor::{Dims, Tensor};

use super::{marks::Bias, parameters::Place, weights::tile, write::Writer};

impl Writer<'_, '_> {
    /// Quantizes every bias.
    pub(super) fn biases(&mut self, cx: &mut PassContext) {
        let mut copies: HashMap<ValueId, usize> = HashMap::new();
        for (i, bias) in self.plan.marks.biases.iter().enumerate() {
            let places = (self.plan.bias_inputs[i], self.plan.bias_weights[i]);
            let (Some(input), Some(weight)) = places else {
                continue;
            };
            let copy = copies.entry(bias.value).or_default();
            let postfix = match *copy {
                0 => String::new(),
                n => (n - 1).to_string(),
            };
            *copy += 1;
            let name = format!("{}{postfix}", self.graph.value(bias.value).name);
            let place = describe(self.graph, bias.node).to_string();
            match self.bias(bias, &name, input, weight, cx) {
                Ok(true) => self.written.biases += 1,
                Ok(false) => {}
                Err(e) => cx.verbose(format_args!("the bias of {place} stays float: {e}")),
            }
        }
    }

    /// Puts a bias into codes; `false` past the limit of rewrites.
    fn bias(
        &mut self,
        bias: &Bias,
        name: &str,
        input: Place,
        weight: Place,
        cx: &mut PassContext,
    ) -> Result<bool, String> {
        let scales = (
            self.plan.scale(self.graph, input),
            self.plan.scale(self.graph, weight),
        );
        let (Some(input_scale), Some(weight_scale)) = scales else {
            return Err("its scale is computed".to_owned());
        };
        let error = |e: onnxq_quant::Error| e.to_string();
        let input_scale = match &*input_scale.to_f32s().map_err(|e| e.to_string())? {
            &[scale] => scale,
            _ => return Err("the input has a scale for each channel".to_owned()),
        };
        if weight_scale.rank() > 1 {
            return Err("the weight has scales by blocks".to_owned());
        }
        let op = self.graph.op(bias.node);
        let (alpha, beta) = match op.filter(|op| op.is("Gemm")) {
            Some(op) => (op.float("alpha", 1.0), op.float("beta", 1.0)),
            None => (1.0, 1.0),
        };
        if alpha <= 0.0 {
            return Err("alpha is not positive".to_owned());
        }
        let tiled = tile(&weight_scale, &bias.tensor).map_err(error)?;
        // alpha scales the sums that the codes are added to.
        let factor = f64::from(beta) / f64::from(alpha);
        let mut q = quantize_bias(&bias.tensor, input_scale, &tiled, factor).map_err(error)?;
        if alpha != 1.0 {
            let float = FloatType::from_dtype(q.scale.dtype()).map_err(error)?;
            let scales = q.scale.to_f32s().map_err(|e| e.to_string())?;
            let scales: Vec<f32> = scales.iter().map(|s| s * alpha).collect();
            q.scale =
                scale_tensor(float, Dims::from_slice(q.scale.dims()), &scales).map_err(error)?;
        }
        if !cx.begin_rewrite(self.plan.pass, name) {
            return Ok(false);
        }
        self.written.saturated += usize::from(q.saturated > 0);
        if let Some(op) = self.graph.op_mut(bias.node).filter(|op| op.is("Gemm")) {
            op.attrs.shift_remove("beta");
        }
        let sunk = match &self.graph.node(bias.value.node).kind {
            NodeKind::Constant(c) => c.sunk,
            _ => false,
        };
        let mut add = |suffix: &str, tensor: &Tensor| {
            let value = Value::new(format!("{name}_{suffix}"), None);
            self.graph
                .add_literal(value, Literal::Dense(tensor.clone()), sunk)
        };
        let codes = add("quantized", &q.data);
        let scale = add("quantized_scale", &q.scale);
        let zero = add("quantized_zero_point", &q.zero_point);
        let granularity = match q.axis {
            Some(axis) => Granularity::PerChannel { axis: axis as i64 },
            None => Granularity::PerTensor,
        };
        let ty = Some(Type::dense(bias.tensor.dtype(), q.data.dims()));
        let node = format!("{name}_DequantizeLinear");
        let params = (scale, Some(zero));
        let back = self.dequantize(codes, ty, node, name.to_owned(), params, granularity);
        self.graph.set_operand(bias.node, bias.operand, Some(back));
        Ok(true)
    }
}
