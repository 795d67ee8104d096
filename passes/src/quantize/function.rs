//! The model-local function `ComputeQuantizationParameters`.
//!
//! Scale and zero point of what is computed, as [`onnxq_quant::dynamic::dynamic_params`] has them:
//! with the attributes `to = 2` (`uint8`), `qmin = 0`, `qmax = 255`, `symmetric = 0` they are those
//! of `DynamicQuantizeLinear`. A 0 is appended to the elements, since it must be in the range; it
//! makes a tensor without elements like one of zeros, too.

use onnxq_ir::{Function, FunctionId, Model, Op, text};
use onnxq_pass::PassError;
use onnxq_quant::{QRange, QuantType};

/// The name of the function.
pub(crate) const FUNCTION: &str = "ComputeQuantizationParameters";
/// Its domain.
pub(crate) const FUNCTION_DOMAIN: &str = "onnxq";

/// Attributes have no defaults: those need a later version of the format than functions do.
const BODY: &str = "
main () => () {}
<domain: \"onnxq\">
ComputeQuantizationParameters <to, qmin, qmax, symmetric> (x) => (scale, zero_point)
{
    zero = Constant <value = float[1] {0.0}> ()
    all = Constant <value = int64[1] {-1}> ()
    flat = Reshape (x, all)
    elements = Concat <axis = 0> (flat, zero)
    min = ReduceMin <keepdims = 0> (elements)
    max = ReduceMax <keepdims = 0> (elements)
    minus_min = Neg (min)
    bound = Max (max, minus_min)
    minus_bound = Neg (bound)
    is_symmetric = Constant <value_int: int = @symmetric> ()
    symmetric = Cast <to = 9> (is_symmetric)
    lo = Where (symmetric, minus_bound, min)
    hi = Where (symmetric, bound, max)
    first = Constant <value_float: float = @qmin> ()
    last = Constant <value_float: float = @qmax> ()
    steps = Sub (last, first)
    range = Sub (hi, lo)
    step = Div (range, steps)
    nothing = Constant <value = float {0.0}> ()
    is_flat = Equal (step, nothing)
    one = Constant <value = float {1.0}> ()
    scale = Where (is_flat, one, step)
    lo_in_steps = Div (lo, scale)
    code_of_zero = Sub (first, lo_in_steps)
    clipped = Clip (code_of_zero, first, last)
    both = Add (first, last)
    two = Constant <value = float {2.0}> ()
    middle = Div (both, two)
    chosen = Where (symmetric, middle, clipped)
    rounded = Round (chosen)
    zero_point = Cast <to: int = @to> (rounded)
}";

/// A call of the function for codes of `qtype`.
pub(super) fn call(qtype: QuantType, symmetric: bool) -> Op {
    let codes = QRange::of(qtype, symmetric, false);
    Op::in_domain(FUNCTION_DOMAIN, FUNCTION)
        .with("to", i64::from(qtype.dtype().onnx()))
        .with("qmin", codes.min as f32)
        .with("qmax", codes.max as f32)
        .with("symmetric", i64::from(symmetric))
}

/// Adds the function to a model that does not have it.
pub(super) fn define(model: &mut Model) -> Result<(), PassError> {
    let id = FunctionId {
        domain: FUNCTION_DOMAIN.to_owned(),
        name: FUNCTION.to_owned(),
        overload: String::new(),
    };
    model.opsets.entry(id.domain.clone()).or_insert(1);
    if model.functions.contains_key(&id) {
        return Ok(());
    }
    let mut function = parse(&id)?;
    let opset = model.opset("").unwrap_or(1);
    function.opsets = [(String::new(), opset)].into_iter().collect();
    model.functions.insert(id, function);
    Ok(())
}

fn parse(id: &FunctionId) -> Result<Function, PassError> {
    let def = text::parse(BODY, &()).map_err(PassError::new)?;
    let mut model = Model::from_def(def).map_err(PassError::new)?;
    let function = model.functions.shift_remove(id);
    function.ok_or_else(|| PassError::new("the text of the function does not define it"))
}
