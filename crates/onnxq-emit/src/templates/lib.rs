
#![no_std]

#[cfg(feature = "alloc")]
extern crate alloc;

#[allow(dead_code, unused_imports, reason = "a model uses a part of them")]
mod kernels;
mod model;
#[allow(dead_code, reason = "a model uses a part of it")]
mod tensors;

// The kernels name each other from the root of their crate.
#[allow(unused_imports, reason = "a model uses a part of them")]
use kernels::*;
use tensors::{Aligned, Constants, Context};
@TYPES@
static WEIGHTS: Aligned<[u8; @WEIGHTS@]> = Aligned(*include_bytes!("weights.bin"));

/// Lines of 64 bytes of activations, and of scratch memory behind them.
const ARENA: usize = @ARENA@;
const SCRATCH: usize = @SCRATCH@;

/// The memory that the model works in, for one run at a time.
#[derive(Clone, Debug)]
pub struct Workspace([Line; ARENA + SCRATCH]);

impl Workspace {
    /// New memory.
    pub const fn new() -> Workspace {
        Workspace([Line::ZERO; ARENA + SCRATCH])
    }
}

impl Default for Workspace {
    fn default() -> Workspace {
        Workspace::new()
    }
}

/// Computes the outputs in the caller's memory, without an allocator.
@ERRORS@@RUN@    run_on(Cpu::detect(), &mut workspace.0, inputs)
}
@RAW_RUN@
/// The model with memory of its own: nothing is allocated after [`new`](Model::new).
#[cfg(feature = "alloc")]
#[derive(Clone, Debug)]
pub struct Model {
    cpu: Cpu,
    memory: alloc::vec::Vec<Line>,
}

#[cfg(feature = "alloc")]
impl Model {
    /// The model. It uses the best instructions that the processor has, of those it is made for.
    pub fn new() -> Model {
        Model {
            cpu: Cpu::detect(),
            memory: alloc::vec![Line::ZERO; ARENA + SCRATCH],
        }
    }

    /// The name of the instructions that it uses.
    pub fn instructions(&self) -> &'static str {
        self.cpu.isa().name()
    }

    /// Computes the outputs.
@ERRORS4@@METHOD@        run_on(self.cpu, &mut self.memory, inputs)
    }
@RAW_METHOD@}

#[cfg(feature = "alloc")]
impl Default for Model {
    fn default() -> Model {
        Model::new()
    }
}

fn context(cpu: Cpu, memory: &mut [Line]) -> Context<'_> {
    let (arena, scratch) = memory.split_at_mut(ARENA);
    Context {
        cpu,
        constants: Constants(tensors::lines(&WEIGHTS.0)),
        arena,
        scratch,
    }
}

@RUN_ON@    let mut cx = context(cpu, memory);
@CALLS@    @RESULT@
}
@RAW_ON@
