
    /// The same with codes instead of floats, as the model has them inside.
@ERRORS4@@METHOD@        run_quantized_on(self.cpu, &mut self.memory, inputs)
    }
