//! Names of quantized tensors, and of the float tensors that they are derived from.
//!
//! Every pass derives the name of what it makes from what it makes it of
//! (`conv1_out` -> `conv1_out_quantized`), as does the quantization tool of ONNX Runtime. Those
//! derivations are undone here, one suffix at a time, until a name of the float model is found.

/// What is put behind names, the longer before what they end in.
const SUFFIXES: &[&str] = &[
    "_QuantizeLinear_Output",
    "_QuantizeLinear_Input",
    "_DequantizeLinear_Output",
    "_DequantizeLinear",
    "_output_quantized_cast_output",
    "_output_quantized",
    "_Reshape_Output",
    "_bias_reshape_output",
    "quant_scaled_output",
    "_quantized",
    // Results of Split: the tool leaves out the underscore.
    "quantized",
    "_convert",
    "_transposed",
    "_float16",
    "_bfloat16",
    "_float",
    // The product in a Gemm whose bias is added by a node of its own.
    "_MatMul",
];

/// The most derivations between a name and the one it comes from.
const DEPTH: usize = 6;

/// The first name that `name` may be derived from and that `find` knows, fewer derivations first;
/// `name` itself counts.
pub(super) fn base<T>(name: &str, mut find: impl FnMut(&str) -> Option<T>) -> Option<T> {
    let mut names = vec![name];
    for _ in 0..=DEPTH {
        if let Some(found) = names.iter().find_map(|name| find(name)) {
            return Some(found);
        }
        names = names.into_iter().flat_map(shorter).collect();
    }
    None
}

/// What `name` is with one suffix less.
fn shorter(name: &str) -> impl Iterator<Item = &str> {
    let suffixes = SUFFIXES.iter().filter_map(|s| name.strip_suffix(s));
    let numbers = unnumbered(name).into_iter().chain(without_digit(name));
    suffixes.chain(numbers).filter(|s| !s.is_empty())
}

/// The name without the number that makes it unique: `_1`.
fn unnumbered(name: &str) -> Option<&str> {
    let base = name.trim_end_matches(|c: char| c.is_ascii_digit());
    (base.len() < name.len()).then(|| base.strip_suffix('_'))?
}

/// The name without the digit that tells copies of a bias that was shared apart: `b0`.
fn without_digit(name: &str) -> Option<&str> {
    name.strip_suffix(|c: char| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derivations_are_undone_until_a_name_is_known() {
        let known = |name: &str| {
            ["conv1_out", "W", "y_1", "b_0"]
                .contains(&name)
                .then(|| name.to_owned())
        };
        let base = |name| base(name, known);
        for (name, expected) in [
            ("conv1_out", "conv1_out"),
            ("conv1_out_quantized", "conv1_out"),
            ("conv1_out_QuantizeLinear_Output", "conv1_out"),
            ("conv1_out_DequantizeLinear_Output_2", "conv1_out"),
            ("conv1_out_MatMul_output_quantized", "conv1_out"),
            ("conv1_outquant_scaled_output_output_quantized", "conv1_out"),
            ("W_quantized_1", "W"),
            ("y_1_quantized", "y_1"),
            ("W0_quantized", "W"),
            ("b_00_quantized", "b_0"),
        ] {
            assert_eq!(base(name).as_deref(), Some(expected), "{name}");
        }
        assert_eq!(base("conv2_out_quantized"), None);
        assert_eq!(base("_quantized"), None);
        assert_eq!(base(""), None);
    }
}
