
fn run_quantized_on<'a>(
    cpu: Cpu,
    memory: &'a mut [Line],
    inputs: &QuantizedInputs<'_>,
) -> @OUTPUTS<'a>@ {
    let mut cx = context(cpu, memory);
@COPIES@@CALLS@    @RESULT@
}
