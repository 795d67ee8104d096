//! What inference finds of symbolic shapes: each model declares the types that must be found.

use onnxq_ir::{Model, text};
use onnxq_ops::infer;

static MODELS: &[&str] = &[
    // Elements of shape tensors are followed.
    r#"(float[N, 3, 4] x) => (float[N, 12] y) <int64 zero = {0}, int64[1] axis = {0}, int64[1] rest = {-1}> {
        s = Shape (x)
        n = Gather (s, zero)
        v = Unsqueeze (n, axis)
        t = Concat <axis = 0> (v, rest)
        y = Reshape (x, t)
    }"#,
    r#"(float[N, M] x) => (float["2*M", N] y) <int64[2] scale = {1, 2}, int64[2] swap = {1, 0}> {
        s = Shape (x)
        d = Mul (s, scale)
        t = Gather (d, swap)
        y = ConstantOfShape (t)
    }"#,
    r#"(float[N, M] x) => (int64[M] y) <int64 one = {1}, int64 zero = {0}> {
        s = Shape <start = 1> (x)
        m = Squeeze (s)
        y = Range (zero, m, one)
    }"#,
    r#"(float[N, M] x, float[1, 1] z) => (float[N, M] y) {
        s = Shape (x)
        y = Expand (z, s)
    }"#,
    // -1 in Where, as exporters of Expand write it.
    r#"(float[N, 1] x) => (float[N, 4] y) <int64[2] want = {-1, 4}, int64[2] minus = {-1, -1}, int64[2] ones = {1, 1}> {
        s = Shape (x)
        same = Equal (want, minus)
        t = Where (same, ones, want)
        y = Expand (x, t)
    }"#,
    // Through float arithmetic.
    r#"(float[N, H] x) => (float[N, "2*H"] y) <float[2] scale = {1, 2}> {
        s = Shape (x)
        f = Cast <to = 1> (s)
        d = Mul (f, scale)
        e = Floor (d)
        t = Cast <to = 7> (e)
        y = ConstantOfShape (t)
    }"#,
    // Slices clamp, and count from the end.
    r#"(float[N, 10] x) => (float[N, 9] y) <int64[1] from = {1}, int64[1] to = {9223372036854775807}, int64[1] axis = {1}> {
        y = Slice (x, from, to, axis)
    }"#,
    r#"(float[N, M] x) => (float[N, "max(0, M - 1)"] y) <int64[1] from = {0}, int64[1] to = {-1}, int64[1] axis = {1}> {
        y = Slice (x, from, to, axis)
    }"#,
    r#"(float[N, M] x) => (float[N, M] y) <int64[1] from = {-1}, int64[1] to = {-9223372036854775808}, int64[1] axis = {1}, int64[1] step = {-1}> {
        y = Slice (x, from, to, axis, step)
    }"#,
    // Broadcasting.
    r#"(float[N, 1, 4] x, float[3, 1] z) => (float[N, 3, 4] y) { y = Add (x, z) }"#,
    r#"(float[N, 1] x, float[N, 4] z) => (bool[N, 4] y) { y = Less (x, z) }"#,
    r#"(float[2, N] x, float[M, N] z) => (float["M + 2", N] y) { y = Concat <axis = 0> (x, z) }"#,
    r#"(float[N, 6] x) => (float[N, 2] a, float[N, 4] b) <int64[2] sizes = {2, 4}> {
        a, b = Split <axis = 1> (x, sizes)
    }"#,
    r#"(float[N, 7] x) => (float[N, 4] a, float[N, 3] b) { a, b = Split <axis = 1, num_outputs = 2> (x) }"#,
    r#"(float[N, C] x) => (float["N + 3", C] y) <int64[4] pads = {1, 0, 2, 0}> { y = Pad (x, pads) }"#,
    r#"(float[N, C] x) => (float["3*N", C] y) <int64[2] repeats = {3, 1}> { y = Tile (x, repeats) }"#,
    r#"(float[N, 8, H, W] x) => (float[N, 2, "2*H", "2*W"] y) { y = DepthToSpace <blocksize = 2> (x) }"#,
    r#"(float[N, A, B] x) => (float[N, "A*B"] y) { y = Flatten (x) }"#,
    r#"(float[N, A] x, int64[K] i) => (float[K, A] y) { y = Gather (x, i) }"#,
    // Sizes that depend on data have names of their own.
    r#"(float[N, A] x) => (int64[2, y_dim_1] y, float[y_dim_1] z) <int64[1] one = {1}, int64 zero = {0}> {
        y = NonZero (x)
        row = Gather (y, zero)
        z = Cast <to = 1> (row)
    }"#,
    // Branches and loops.
    r#"(bool c, float[N, 3] x, float[N, 4] z) => (float[N, ?] y) {
        y = If (c) <
            then_branch = then () => (p) { p = Identity (x) },
            else_branch = else () => (q) { q = Identity (z) }
        >
    }"#,
    // Values of one name in two graphs are two values.
    r#"(bool c, float[N] x, float[N] z) => (int64[1, y_p_dim_1] y, int64[1, w_p_dim_1] w) {
        y = If (c) <
            then_branch = then () => (p) { p = NonZero (x) },
            else_branch = else () => (p) { p = NonZero (z) }
        >
        w = If (c) <
            then_branch = then () => (p) { p = NonZero (z) },
            else_branch = else () => (p) { p = NonZero (x) }
        >
    }"#,
    r#"(float[N, 3] x) => (float[N, 3] y, float[5, N, 3] all) <int64 n = {5}> {
        y, all = Loop (n, , x) <
            body = b (int64 i, bool c, float[] v) => (d, w, o) {
                d = Identity (c)
                w = Add (v, v)
                o = Relu (w)
            }
        >
    }"#,
    r#"(float[N] x, int64 n) => (float[?] y) {
        y = Loop (n, , x) <
            body = b (int64 i, bool c, float[] v) => (d, w) {
                d = Identity (c)
                w = Concat <axis = 0> (v, v)
            }
        >
    }"#,
    r#"(float[N] x, float[T, N] xs) => (float[N] y, float[T, N] ys) {
        y, ys = Scan (x, xs) <
            num_scan_inputs = 1,
            body = b (float[] s, float[] e) => (t, o) {
                t = Add (s, e)
                o = Identity (t)
            }
        >
    }"#,
];

#[test]
fn shapes_are_found() {
    for source in MODELS {
        let source = source.to_string();
        let def = text::parse(&format!("main {source}"), &());
        let def = def.unwrap_or_else(|e| panic!("{source}: {e}"));
        let mut model = Model::from_def(def).unwrap_or_else(|e| panic!("{source}: {e}"));
        let declared: Vec<_> = model.graph.outputs.iter().map(|o| o.ty.clone()).collect();
        for v in model.graph.results().into_iter().flatten() {
            model.graph.set_type(v, None);
        }
        let facts = infer::analyze(&model).results(&model.graph);
        for (declared, fact) in declared.iter().zip(&facts) {
            assert_eq!(fact.ty, *declared, "{source}");
        }
    }
}
