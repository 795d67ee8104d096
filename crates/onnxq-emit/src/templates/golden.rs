//! The outputs for a recorded input, bit for bit, and that nothing is allocated on the way to them.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

use @CRATE@::{Inputs, Model};

/// Inputs and outputs, one after the other.
static RECORDED: &[u8] = include_bytes!("golden.bin");

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, counting.
struct Counting;

#[expect(unsafe_code, reason = "an allocator is unsafe")]
// SAFETY: everything is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn read<T, const N: usize, const SIZE: usize>(
    from: &mut &[u8],
    f: impl Fn([u8; SIZE]) -> T,
) -> Box<[T; N]> {
    let (bytes, rest) = from.split_at(N * SIZE);
    *from = rest;
    let (elements, _) = bytes.as_chunks();
    let elements: Vec<T> = elements.iter().map(|&bytes| f(bytes)).collect();
    let elements = elements.try_into().ok();
    elements.expect("as many elements as were read")
}

fn check<T: Copy, const SIZE: usize>(
    recorded: &mut &[u8],
    name: &str,
    output: &[T],
    f: impl Fn(T) -> [u8; SIZE],
) {
    let (expected, rest) = recorded.split_at(output.len() * SIZE);
    *recorded = rest;
    let bytes: Vec<u8> = output.iter().flat_map(|&x| f(x)).collect();
    let equal = bytes.iter().zip(expected).take_while(|(a, b)| a == b);
    let at = equal.count() / SIZE;
    assert!(bytes == expected, "element {at} of {name} differs");
}

#[test]
fn outputs_are_as_recorded() {
    let mut recorded = RECORDED;
@READ@    let inputs = @INPUTS@;
    let mut model = Model::new();
    let before = ALLOCATIONS.get();
    let outputs = model.run(&inputs)@MARK@;
    assert_eq!(ALLOCATIONS.get(), before, "allocations in a run");
@CHECKS@}
