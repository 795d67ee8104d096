//! Concatenations of codes: with their channels last, and as planes; of equal parameters, and of others.

use std::fmt::Write;

use onnxq::{CompileOptions, Memory, compile, tensor::Tensor};

use super::{Numbers, check, list};

#[test]
fn joined_images() {
    for (channels, pixels) in [
        (vec![16, 16], [40, 41]),
        (vec![8, 24, 3], [7, 6]),
        (vec![32, 64, 1], [5, 5]),
        (vec![300, 5], [3, 70]),
    ] {
        let mut numbers = Numbers(channels.len() as u64);
        let [height, width] = pixels;
        let (mut inputs, mut constants, mut nodes) = (Vec::new(), String::new(), String::new());
        let (mut last, mut planes, mut given) = (String::new(), String::new(), Vec::new());
        for (i, &c) in channels.iter().enumerate() {
            inputs.push(format!("uint8[1, {c}, {height}, {width}] x{i}"));
            let w = list((0..c * c).map(|_| numbers.code(true)));
            let (scale, zero) = match i {
                0 => (0.02, 117),
                _ => (0.013 * i as f32, 40 * i),
            };
            writeln!(constants, "int8[{c}, {c}, 1, 1] w{i} = {{{w}}}, float s{i} = {{{scale}}}, uint8 z{i} = {{{zero}}},").unwrap();
            writeln!(
                nodes,
                "c{i} = QLinearConv (x{i}, s0, z0, w{i}, ws, wz, s{i}, z{i})"
            )
            .unwrap();
            write!(last, ", c{i}, s{i}, z{i}").unwrap();
            write!(planes, ", x{i}, s{i}, z{i}").unwrap();
            let x = (0..c * height * width).map(|_| numbers.below(256) as u8);
            given.push(Tensor::from_vec(&[1, c, height, width][..], x.collect()).ok());
        }
        let all: usize = channels.iter().sum();
        let text = format!(
            r#"<ir_version: 10, opset_import: ["": 21, "com.microsoft": 1]>
            main ({}) => (uint8[1, {all}, {height}, {width}] y, uint8[1, {all}, {height}, {width}] p)
            <{constants} float ws = {{0.01}}, int8 wz = {{0}}>
            {{
                {nodes}
                y = com.microsoft.QLinearConcat <axis = 1> (s0, z0{last})
                p = com.microsoft.QLinearConcat <axis = 1> (s0, z0{planes})
            }}"#,
            inputs.join(", ")
        );
        check(&text, &given);
    }
}

/// Heights that only differ when the model is compiled, as of images whose sizes are no multiple of what a network halves.
#[test]
fn images_of_other_sizes_are_an_error() {
    let text = r#"<ir_version: 8, opset_import: ["": 17]>
        main (uint8[1, 2, h, 4] a, uint8[1, 2, k, 4] b) => (uint8[1, 4, h, 4] y)
        {
            y = Concat <axis = 1> (a, b)
        }"#;
    let model = onnxq::parse(text).expect("a model");
    let mut options = CompileOptions::default();
    let mut given = Vec::new();
    for (name, height) in [("a", 4), ("b", 3)] {
        let dims = vec![1, 2, height, 4];
        options.shapes.insert(name.to_owned(), dims.clone());
        given.push(Tensor::from_vec(&dims[..], vec![7u8; 8 * height]).ok());
    }
    let made = compile(&model, &options).and_then(|program| {
        program.run(&mut Memory::new(), &given)?;
        Ok(())
    });
    let message = made.expect_err("images do not fit").to_string();
    assert!(message.contains("Concat"), "{message}");
}
