
/// The same with codes instead of floats, as the model has them inside.
@ERRORS@@RUN@    run_quantized_on(Cpu::detect(), &mut workspace.0, inputs)
}
