//! Folds BatchNormalization into the linear operator that feeds it.
//!
//! ```text
//! y = BatchNormalization(Conv(x, W, b), gamma, beta, mean, var)   =>   y = Conv(x, W', b')
//! k = gamma / sqrt(var + epsilon)    W' = k * W    b' = k * (b - mean) + beta
//! ```
//!
//! Likewise for `ConvTranspose`, `Gemm`, and `MatMul` with the weight on the right, which becomes
//! a `Gemm`. `k` counts per output channel, whatever the groups; a bias may be absent. `alpha` and
//! `beta` of a `Gemm` are folded as well.
//!
//! Does not fire
//! - in training mode, or where the statistics are results;
//! - where a parameter, the weight or the bias is no constant, or one that callers may override;
//! - where the result of the linear operator has another use, a result of the graph included;
//! - where the result of `MatMul` is not known to be of rank 2: the normalized axis, 1, is not
//!   that of the output features then;
//! - where a weight of more than 1 MiB has another use, for which it would have to stay;
//! - where a new number would not be finite in the type of the weight.
//!
//! Numbers are computed in f64 and rounded once.

use onnxq_ir::NodeId;
use onnxq_pass::{PassInfo, Rewrite, Rewriter, rewrites};

use super::{
    batch_norm::BatchNorm,
    linear::{Kind, Linear},
};

pub(crate) const INFO: PassInfo = PassInfo {
    name: "fuse-conv-bn",
    summary: "fold BatchNormalization into the preceding linear operator",
    options: &[],
    build: |_| rewrites("fuse-conv-bn", REWRITES),
};

const REWRITES: &[Rewrite] = &[Rewrite {
    name: "fuse-conv-bn",
    apply: fuse_conv_bn,
}];

/// `BatchNormalization(Conv(x, W, b), ...)` => `Conv(x, W', b')`
fn fuse_conv_bn(rw: &mut Rewriter<'_>, n: NodeId) -> Option<()> {
    let bn = BatchNorm::new(rw, n, |rw, x| Kind::of(rw, x.node).is_some())?;
    let linear = Linear::producer(rw, bn.x, n)?;
    if linear
        .rank(rw)
        .is_none_or(|rank| rank < 2 || (linear.kind == Kind::MatMul && rank > 2))
    {
        return rw.miss(
            n,
            "axis 1 of MatMul's result is not known to be its output features",
        );
    }
    if linear.output.channels() != bn.affine.scale.len() {
        return None;
    }
    linear.fold_after(rw, n, &bn.affine, bn.y)
}

#[cfg(test)]
mod tests {
    use onnxq_ir::{Model, text};
    use onnxq_pass::{Config, Instrumentation, PassContext, PassManager, Pipeline};

    /// Nearly the numbers that ONNX Runtime 1.31.1 gives.
    #[test]
    fn numbers() {
        let source = r#"
            main (float[1, 2, 3, 3] x) => (float[1, 3, 3, 3] y)
            <float[3, 2, 1, 1] W = ["fill": "1"], float[3] b = {1, 2, 3}, float[3] gamma = {1, 2, 3},
             float[3] beta = {0, 0, 0}, float[3] mean = {1, 1, 1}, float[3] var = {0.5, 0.5, 0.5}>
            {
                [conv] c = Conv (x, W, b)
                [bn] y = BatchNormalization (c, gamma, beta, mean, var)
            }"#;
        let mut model = Model::from_def(text::parse(source, &()).unwrap()).unwrap();
        let pipeline = Pipeline::parse("fuse-conv-bn").unwrap();
        let registry = crate::registry();
        PassManager::new(&registry, &pipeline, &Config::default())
            .unwrap()
            .run(
                &mut model,
                &mut PassContext::new(),
                &mut Instrumentation::default(),
            )
            .unwrap();
        let g = &model.graph;
        let y = g.results()[0].unwrap();
        assert!(g.is(y.node, "Conv"));
        assert_eq!(
            (g.node(y.node).name.as_str(), g.value(y).name.as_str()),
            ("conv", "y")
        );
        // ONNX Runtime rounds at every step.
        let is_near = |i, expected: &[f32]| {
            let tensor = g.tensor(g.operand(y.node, i).unwrap()).unwrap();
            let found = tensor.to_f32s().unwrap();
            assert_eq!(found.len(), expected.len());
            let near = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-6 * b.abs();
            assert!(found.iter().zip(expected).all(near), "{found:?}");
        };
        let k = [1.414_199_4, 2.828_398_7, 4.242_598];
        is_near(1, &[k[0], k[0], k[1], k[1], k[2], k[2]]);
        is_near(2, &[0.0, 2.828_398_7, 8.485_196]);
    }
}
