//! Measures one convolution of 8-bit integers, requantized to `u8`: `conv SPEC [--types u8s8|s8s8] [--isa amx]
//! [--threads N]` prints `N GOPS` last, multiplications and additions counted apart.
//!
//! - `dw3x3:C:H`: depthwise, 3x3, over C channels of HxH; also `dw5x5` and the like, and with strides as in `dw3x3s2`;
//! - `pw:CI-CO:H`: 1x1 from CI to CO channels and another one back, the figure is for both;
//! - `c3:C:H`: dense 3x3, with the copy of the image that pads it.
//!
//! With one thread the time is the thread's own processor time, and the figure the median of
//! several short rounds; with more it is the clock's, and the best.

#![expect(clippy::print_stdout, reason = "a program that prints a figure")]

use std::{env, error::Error, ops::Range};

mod aligned;
mod timing;

use aligned::Aligned;
use onnxq_kernels::{
    Cpu, Depthwise, Epilogue, Geometry, Image, Isa, Left, Line, Output, Packed, Product,
    Requantize, Weights, Window, bytes_mut, depthwise_packed_len, depthwise_scratch_lines, pack,
    pack_depthwise, packed_len, pad, scratch_lines,
};

const USAGE: &str =
    "usage: conv dw3x3:C:H|pw:CI-CO:H|c3:C:H [--types u8s8|s8s8] [--isa ISA] [--threads N]";
const ROUNDS: usize = 11;
const ROUND_SECONDS: f64 = 0.02;

enum Kind {
    /// Channels, kernel, stride.
    Depthwise(usize, usize, usize),
    Pointwise(usize, usize),
    Dense(usize),
}

struct Options {
    kind: Kind,
    size: usize,
    signed: bool,
    cpu: Cpu,
    threads: usize,
}

impl Options {
    fn read() -> Result<Options, Box<dyn Error>> {
        let mut arguments = env::args().skip(1);
        let spec = arguments.next().ok_or(USAGE)?;
        let [kind, channels, size] = spec.split(':').collect::<Vec<_>>()[..] else {
            return Err(USAGE.into());
        };
        let number = |text: &str| text.parse().ok().filter(|&n: &usize| n > 0).ok_or(USAGE);
        let mut options = Options {
            kind: match (kind, channels.split_once('-')) {
                (depthwise, None) if depthwise.starts_with("dw") => {
                    let (kernel, stride) = match depthwise[2..].split_once('s') {
                        Some((kernel, stride)) => (kernel, number(stride)?),
                        None => (&depthwise[2..], 1),
                    };
                    let (height, width) = kernel.split_once('x').ok_or(USAGE)?;
                    if height != width {
                        return Err(USAGE.into());
                    }
                    Kind::Depthwise(number(channels)?, number(height)?, stride)
                }
                ("c3", None) => Kind::Dense(number(channels)?),
                ("pw", Some((from, to))) => Kind::Pointwise(number(from)?, number(to)?),
                _ => return Err(USAGE.into()),
            },
            size: number(size)?,
            signed: false,
            cpu: Cpu::detect(),
            threads: 1,
        };
        while let Some(argument) = arguments.next() {
            let value = arguments.next().ok_or(USAGE)?;
            match argument.as_str() {
                "--types" if value == "u8s8" => options.signed = false,
                "--types" if value == "s8s8" => options.signed = true,
                "--isa" => {
                    let isa: Isa = value.parse()?;
                    options.cpu =
                        Cpu::with(isa).ok_or("this processor has no such instructions")?;
                }
                "--threads" => options.threads = number(&value)?,
                _ => return Err(USAGE.into()),
            }
        }
        options.threads = options.threads.min(options.size);
        Ok(options)
    }

    fn operations(&self) -> f64 {
        let each = match self.kind {
            Kind::Depthwise(channels, kernel, _) => kernel * kernel * channels,
            Kind::Pointwise(from, to) => 2 * from * to,
            Kind::Dense(channels) => 9 * channels * channels,
        };
        (2 * each * self.result() * self.result()) as f64
    }

    /// Rows and columns of the result.
    fn result(&self) -> usize {
        match self.kind {
            Kind::Depthwise(_, _, stride) => self.size.div_ceil(stride),
            _ => self.size,
        }
    }
}

/// Bytes of no particular kind.
fn bytes(len: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let next = |_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    };
    (0..len).map(next).collect()
}

/// Bytes of no particular kind, aligned.
fn some(len: usize) -> Aligned<u8> {
    let mut some = Aligned::zeros(len);
    some.get_mut().copy_from_slice(&bytes(len));
    some
}

/// A convolution: packed weights and what goes with them.
struct Layer {
    packed: Vec<Line>,
    taps: usize,
    from: usize,
    to: usize,
    offset: Vec<i32>,
    scale: Vec<f32>,
}

impl Layer {
    /// Kernels of `taps` rows, `row_taps` positions in each.
    fn dense(from: usize, to: usize, rows: usize, row_taps: usize) -> Layer {
        let depth = from * row_taps;
        let mut packed = vec![Line::ZERO; packed_len(to, rows, depth) / 64];
        let data = bytes(to * rows * depth);
        let weights = Weights {
            data: &data,
            signed: true,
            columns: to,
            segments: rows,
            depth: [1, depth],
            strides: [rows * depth, depth, 0, 1],
        };
        pack(
            Cpu::detect(),
            &weights,
            bytes_mut(&mut packed),
            &mut vec![0; to],
        );
        Layer {
            packed,
            taps: rows,
            from: depth,
            to,
            offset: (0..to as i32).map(|i| i * 37 % 1000).collect(),
            scale: vec![0.02 / ((rows * depth) as f32).sqrt(); to],
        }
    }

    fn run(
        &self,
        o: &Options,
        data: &[u8],
        geometry: Geometry,
        y: &mut [u8],
        scratch: &mut [Line],
    ) {
        let right = self.right();
        let product = Product {
            left: Left {
                data,
                signed: o.signed,
                geometry,
            },
            right,
            strides: [geometry.run_len * self.to, self.to],
            epilogue: Epilogue {
                offset: &self.offset,
                zero: &[],
            },
        };
        let to = Requantize {
            scale: &self.scale,
            zero: 128,
            bounds: [0, 255],
            residual: None,
        };
        product.run(o.cpu, Output::Bytes(y, to), scratch);
    }

    fn right(&self) -> Packed<'_> {
        Packed {
            data: onnxq_kernels::bytes(&self.packed),
            columns: self.to,
            segments: self.taps,
            depth: self.from,
            among: self.packed.len() * size_of::<Line>(),
        }
    }
}

/// What one thread computes, over and over.
type Part<'a> = Box<dyn FnMut() + Send + 'a>;

fn depthwise<'a>(
    o: &'a Options,
    [channels, kernel, stride]: [usize; 3],
    rows: Range<usize>,
) -> Part<'a> {
    let window = Window {
        kernel: [kernel; 2],
        strides: [stride; 2],
        dilations: [1, 1],
        pads: [kernel / 2; 2],
    };
    let image = some(o.size * o.size * channels);
    let mut packed = vec![Line::ZERO; depthwise_packed_len(&window, channels) / 64];
    let weights = pack_depthwise(
        &bytes(channels * kernel * kernel),
        true,
        &[],
        &window,
        bytes_mut(&mut packed),
        &mut vec![0; channels],
    );
    let narrow = weights.narrow;
    let (offset, scale) = (vec![100; channels], vec![0.01; channels]);
    let mut y = Aligned::zeros(rows.len() * o.result() * channels);
    let mut scratch = vec![Line::ZERO; depthwise_scratch_lines(&window)];
    Box::new(move || {
        let depthwise = Depthwise {
            image: Image {
                data: image.get(),
                signed: o.signed,
                dims: [o.size, o.size, channels],
            },
            pad: 128,
            window,
            weights: onnxq_kernels::DepthwiseWeights {
                data: onnxq_kernels::bytes(&packed),
                channels,
                window,
                narrow,
            },
            offset: &offset,
            result: [o.result(); 2],
        };
        let to = Requantize {
            scale: &scale,
            zero: 128,
            bounds: [0, 255],
            residual: None,
        };
        depthwise.run(o.cpu, rows.clone(), y.get_mut(), &to, &mut scratch);
    })
}

fn pointwise<'a>(o: &'a Options, layers: &'a [Layer; 2], rows: Range<usize>) -> Part<'a> {
    let pixels = rows.len() * o.size;
    let [there, back] = layers;
    let mut x = some(pixels * there.from);
    let mut middle = Aligned::zeros(pixels * there.to);
    let lines = layers.each_ref().map(|layer| scratch_lines(&layer.right()));
    let mut scratch = vec![Line::ZERO; lines[0].max(lines[1])];
    Box::new(move || {
        let geometry = |depth| Geometry::matrix(pixels, depth, depth);
        there.run(
            o,
            x.get(),
            geometry(there.from),
            middle.get_mut(),
            &mut scratch,
        );
        back.run(
            o,
            middle.get(),
            geometry(back.from),
            x.get_mut(),
            &mut scratch,
        );
    })
}

fn dense<'a>(o: &'a Options, layer: &'a Layer, rows: Range<usize>) -> Part<'a> {
    let channels = layer.to;
    let x = some(o.size * o.size * channels);
    let mut y = Aligned::zeros(rows.len() * o.size * channels);
    let pitch = (o.size + 2) * channels;
    let mut padded = Aligned::zeros((rows.len() + 2) * pitch);
    let mut scratch = vec![Line::ZERO; scratch_lines(&layer.right())];
    Box::new(move || {
        let dims = [o.size, o.size, channels];
        let part = rows.start..rows.end + 2;
        pad(
            x.get(),
            dims,
            [1, 1],
            [o.size + 2; 2],
            128,
            part,
            padded.get_mut(),
        );
        let geometry = Geometry {
            runs: rows.len(),
            run_len: o.size,
            run_stride: pitch,
            row_stride: channels,
            segments: [3, 1],
            segment_strides: [pitch, 0],
            depth: 3 * channels,
        };
        layer.run(o, padded.get(), geometry, y.get_mut(), &mut scratch);
    })
}

fn main() -> Result<(), Box<dyn Error>> {
    let o = Options::read()?;
    let each = o.result().div_ceil(o.threads);
    let rows = (0..o.result())
        .step_by(each)
        .map(|first| first..o.result().min(first + each));
    let layers = match o.kind {
        Kind::Depthwise(..) => None,
        Kind::Pointwise(from, to) => {
            Some([Layer::dense(from, to, 1, 1), Layer::dense(to, from, 1, 1)])
        }
        Kind::Dense(channels) => {
            let layer = || Layer::dense(channels, channels, 3, 3);
            Some([layer(), layer()])
        }
    };
    let mut parts: Vec<Part<'_>> = rows
        .map(|rows| match (&o.kind, &layers) {
            (Kind::Depthwise(channels, kernel, stride), _) => {
                depthwise(&o, [*channels, *kernel, *stride], rows)
            }
            (Kind::Pointwise(..), Some(layers)) => pointwise(&o, layers, rows),
            (_, Some([layer, _])) => dense(&o, layer, rows),
            (_, None) => Box::new(|| ()),
        })
        .collect();
    let mut calls = 1;
    while timing::rounds(&mut parts, calls) < ROUND_SECONDS / 2.0 {
        calls *= 2;
    }
    let mut times: Vec<f64> = (0..ROUNDS)
        .map(|_| timing::rounds(&mut parts, calls) / calls as f64)
        .collect();
    times.sort_by(f64::total_cmp);
    let speed = |seconds: f64| o.operations() / seconds / 1e9;
    let usual = match o.threads {
        1 => times[ROUNDS / 2],
        _ => times[0],
    };
    println!(
        "{}: best {:.1}, {:.2} us, {:.1} GOPS",
        o.cpu.isa(),
        speed(times[0]),
        usual * 1e6,
        speed(usual)
    );
    Ok(())
}
