//! Reads a digit: an 8x8 image, drawn below.

use digit_reader::{Inputs, Model};

const IMAGE: [&str; 8] = [
    "..####..",
    ".##..##.",
    ".....##.",
    "...###..",
    ".....##.",
    ".....##.",
    ".##..##.",
    "..####..",
];

fn main() {
    let pixels: Vec<u8> = IMAGE.concat().into_bytes();
    let image = std::array::from_fn(|i| if pixels[i] == b'#' { 1.0 } else { 0.0 });

    let mut model = Model::new();
    let outputs = model.run(&Inputs { input: &image });
    let best = (0..10).max_by(|&a, &b| outputs.logits[a].total_cmp(&outputs.logits[b]));
    println!("it is a {}, says the model on {}", best.unwrap(), model.instructions());
}
