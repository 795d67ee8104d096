//! The zoo is complete: every model loads, and runs to its stored outputs.

use onnxq_tests::{
    metrics::compare,
    oracle::{Level, oracle},
    zoo::zoo,
};

#[test]
fn every_model_gives_its_stored_outputs() {
    let Some(zoo) = zoo() else { return };
    let mut ran = 0;
    for (name, path) in zoo.models() {
        let Some(io) = zoo.io(name).unwrap() else {
            continue;
        };
        let outputs = oracle().run(path, &io.inputs, Level::Basic).unwrap();
        for (output, expected) in &io.outputs {
            let metrics = compare(expected, &outputs[output]).unwrap();
            assert!(metrics.sqnr_db > 60.0, "{name}: {output}: {metrics:?}");
        }
        ran += 1;
    }
    assert!(ran >= 25, "only {ran} models ran");
    assert!(zoo.models().count() >= 30);
}
