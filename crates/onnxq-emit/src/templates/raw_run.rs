
/// The same with codes instead of floats, as the model has them inside.
@ERRORS@pub fn run_quantized<'a>(
    workspace: &'a mut Workspace,
    inputs: &QuantizedInputs<'_>,
) -> @OUTPUTS<'a>@ {
    run_quantized_on(Cpu::detect(), &mut workspace.0, inputs)
}
