//! Images resized by linear interpolation: of codes with their channels last, of floats, and of codes as planes.

use onnxq::tensor::Tensor;
use proptest::prelude::*;

use super::{Numbers, check, list};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn resized_images(
        channels in prop_oneof![Just(1usize), 2..20usize, Just(32usize)],
        size in prop::array::uniform2(1..12usize),
        to in prop::array::uniform2(1..25usize),
        mode in prop::sample::select(vec!["half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel"]),
        images in 1..3usize,
        seed in any::<u64>(),
    ) {
        let mut numbers = Numbers(seed);
        let [height, width] = size;
        let w = list((0..channels * channels).map(|_| numbers.code(true)));
        // Sizes that scales give, rounded down.
        let scales = [0, 1].map(|axis| (to[axis] as f32 + 0.25) / size[axis] as f32);
        let x = format!("[{images}, {channels}, {height}, {width}]");
        let y = format!("[{images}, {channels}, {}, {}]", to[0], to[1]);
        let attributes = format!("<mode = \"linear\", coordinate_transformation_mode = \"{mode}\">");
        let text = format!(
            r#"<ir_version: 8, opset_import: ["": 17]>
            main (uint8{x} x, float{x} f) => (uint8{y} y, float{y} g, int8{y} p)
            <int8[{channels}, {channels}, 1, 1] w = {{{w}}}, float ws = {{0.01}}, int8 wz = {{0}}, float s = {{0.02}}, uint8 z = {{117}},
             float t = {{0.013}}, int8 tz = {{-7}}, float[4] scales = {{1, 1, {}, {}}}, int64[4] sizes = {{{images}, {channels}, {}, {}}}>
            {{
                c = QLinearConv (x, s, z, w, ws, wz, s, z)
                fc = DequantizeLinear (c, s, z)
                rc = Resize {attributes} (fc, "", scales)
                y = QuantizeLinear (rc, ws, z)
                g = Resize {attributes} (f, "", "", sizes)
                fx = DequantizeLinear (x, s, z)
                rx = Resize {attributes} (fx, "", scales)
                p = QuantizeLinear (rx, t, tz)
            }}"#,
            scales[0], scales[1], to[0], to[1],
        );
        let len = images * channels * height * width;
        let dims = [images, channels, height, width];
        let codes = (0..len).map(|_| numbers.below(256) as u8).collect();
        let floats = (0..len).map(|_| numbers.below(2000) as f32 / 512.0 - 2.0).collect();
        let given = [Tensor::from_vec(&dims[..], codes).ok(), Tensor::from_vec(&dims[..], floats).ok()];
        check(&text, &given);
    }
}

/// An image that is worth several threads, by scales that are exact and not.
#[test]
fn large_images() {
    for (scale, result) in [(2.0, 128), (1.5, 96), (0.4, 25)] {
        let text = format!(
            r#"<ir_version: 8, opset_import: ["": 17]>
            main (float[1, 24, 64, 64] f) => (float[1, 24, {result}, {result}] g, float[1, 24, 64, {result}] h)
            <float[4] scales = {{1, 1, {scale}, {scale}}}, float[4] across = {{1, 1, 1, {scale}}}>
            {{
                g = Resize <mode = "linear"> (f, "", scales)
                h = Resize <mode = "linear"> (f, "", across)
            }}"#
        );
        let mut numbers = Numbers(3);
        let floats = (0..24 * 64 * 64).map(|_| numbers.below(2000) as f32 / 512.0 - 2.0);
        let given = [Tensor::from_vec(&[1, 24, 64, 64][..], floats.collect()).ok()];
        check(&text, &given);
    }
}
