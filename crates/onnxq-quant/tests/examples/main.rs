//! Numbers worked out by hand or observed in other tools, each in one place.

mod biases;
mod dynamic;
mod parameters;
mod weights;

use onnxq_tensor::Tensor;

fn matrix(dims: &[usize], values: &[f32]) -> Tensor {
    Tensor::from_vec(dims, values.to_vec()).unwrap()
}

fn scales(t: &Tensor) -> Vec<f32> {
    t.as_slice::<f32>().unwrap().into_owned()
}

fn ints(t: &Tensor) -> Vec<i64> {
    t.to_i64s().unwrap()
}
