
    /// The same with codes instead of floats, as the model has them inside.
@ERRORS4@    pub fn run_quantized(&mut self, inputs: &QuantizedInputs<'_>) -> @OUTPUTS<'_>@ {
        run_quantized_on(self.cpu, &mut self.memory, inputs)
    }
