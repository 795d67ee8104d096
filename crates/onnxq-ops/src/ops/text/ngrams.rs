//! TfIdfVectorizer: counts how often each n-gram of a pool occurs in each row.
//!
//! An n-gram's items stand `1 + skip` apart, for each `skip` up to `max_skip_count`; a unigram is
//! counted once. The pool lists the unigrams, then the bigrams, and so on; `ngram_counts` says where
//! each kind begins, `ngram_indexes` which element of the result counts which n-gram. Counts
//! (`TF`), weights of those that occur (`IDF`), or counts times weights (`TFIDF`).

use std::collections::HashMap;

use onnxq_ir::{Attr, Op};
use onnxq_tensor::{DType, Dim, Dims, Shape, Tensor};

use super::strings;
use crate::{EvalContext, EvalError, InferContext, Operator, Unknown, Value, ops::rules};

pub(super) struct TfIdfVectorizer;

/// The number of elements of a row of the result.
fn width(op: &Op) -> Option<usize> {
    let last = op.ints("ngram_indexes")?.iter().max()?;
    usize::try_from(last.checked_add(1)?).ok()
}

impl Operator for TfIdfVectorizer {
    fn name(&self) -> &'static str {
        "TfIdfVectorizer"
    }

    fn since(&self) -> &'static [i64] {
        &[9]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        cx.set_dtype(0, DType::F32);
        let width = match width(cx.op()) {
            Some(width) => Dim::known(width as i64),
            None => {
                return Err(Unknown::new(
                    "attribute 'ngram_indexes' is no list of indices",
                ));
            }
        };
        let shape = match &cx.shape(0)?[..] {
            [] | [_] => Shape::from_iter([width]),
            [rows, _] => Shape::from_iter([rows.clone(), width]),
            _ => return Err(Unknown::new("an operand of rank over 2")),
        };
        cx.set_tensor(0, DType::F32, shape);
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let (x, op) = (cx.tensor(0)?, cx.op());
        let width = width(op).ok_or_else(|| cx.invalid("attribute 'ngram_indexes'"))?;
        let (rows, dims) = match *x.dims() {
            [] | [_] => (1, Dims::from_slice(&[width])),
            [rows, _] => (rows, Dims::from_slice(&[rows, width])),
            _ => return Err(cx.invalid(format!("an operand of {:?}", x.dims()))),
        };
        rules::limited(&dims)?;
        let counts = match (op.attr("pool_strings"), op.ints("pool_int64s")) {
            (Some(Attr::Strings(pool)), _) => Pool::of(cx, pool)?.count(cx, &strings(cx, 0)?, rows),
            (_, Some(pool)) => Pool::of(cx, pool)?.count(cx, &x.to_i64s()?, rows),
            _ => return Err(cx.invalid("neither 'pool_strings' nor 'pool_int64s' is given")),
        };
        let weights = op
            .attr("weights")
            .and_then(Attr::as_floats)
            .unwrap_or_default();
        let indexes = op.ints("ngram_indexes").unwrap_or_default();
        if !weights.is_empty() && weights.len() != indexes.len() {
            return Err(cx.invalid("attribute 'weights' does not fit 'ngram_indexes'"));
        }
        let mut factors = vec![1.0; width];
        for (&i, &weight) in indexes.iter().zip(weights) {
            if let Some(factor) = usize::try_from(i).ok().and_then(|i| factors.get_mut(i)) {
                *factor = weight;
            }
        }
        let mode = op.str("mode").unwrap_or_default();
        let weigh = |(i, &count): (usize, &u64)| match mode {
            "TF" => Ok(count as f32),
            "IDF" => Ok(if count > 0 { factors[i % width] } else { 0.0 }),
            "TFIDF" => Ok(factors[i % width] * count as f32),
            other => Err(cx.invalid(format!("attribute 'mode' is '{other}'"))),
        };
        let y = counts
            .iter()
            .enumerate()
            .map(weigh)
            .collect::<Result<_, _>>()?;
        Ok(vec![Tensor::from_vec(dims, y)?.into()])
    }
}

/// The n-grams that are counted, and the element of the result that counts each.
struct Pool<'a, T> {
    places: HashMap<&'a [T], usize>,
    lengths: std::ops::RangeInclusive<usize>,
    width: usize,
}

impl<'a, T: Eq + std::hash::Hash + Clone> Pool<'a, T> {
    fn of(cx: &EvalContext<'_>, pool: &'a [T]) -> Result<Pool<'a, T>, EvalError> {
        let op = cx.op();
        let length = |key: &str| match usize::try_from(op.int(key, 1)) {
            Ok(n @ 1..) => Ok(n),
            _ => Err(cx.invalid(format!("attribute '{key}' is no length"))),
        };
        let lengths = length("min_gram_length")?..=length("max_gram_length")?;
        let starts = op.ints("ngram_counts").unwrap_or_default();
        let start = |i: usize| match starts.get(i) {
            Some(&start) => usize::try_from(start).ok().filter(|&s| s <= pool.len()),
            None => Some(pool.len()),
        };
        let indexes = op.ints("ngram_indexes").unwrap_or_default();
        let wrong = || cx.invalid("attribute 'ngram_counts' or 'ngram_indexes' does not fit");
        let (mut places, mut number) = (HashMap::new(), 0);
        for i in 0..starts.len() {
            let (from, to) = (start(i).ok_or_else(wrong)?, start(i + 1).ok_or_else(wrong)?);
            for gram in pool.get(from..to).ok_or_else(wrong)?.chunks_exact(i + 1) {
                let place = indexes.get(number).and_then(|&n| usize::try_from(n).ok());
                number += 1;
                if lengths.contains(&(i + 1)) {
                    places.entry(gram).or_insert(place.ok_or_else(wrong)?);
                }
            }
        }
        let width = width(op).ok_or_else(wrong)?;
        Ok(Pool {
            places,
            lengths,
            width,
        })
    }

    /// How often each element of the result occurs in each row of `items`.
    fn count(&self, cx: &EvalContext<'_>, items: &[T], rows: usize) -> Vec<u64> {
        let mut counts = vec![0; rows * self.width];
        let size = items.len().checked_div(rows).unwrap_or(0);
        // No n-gram has items further apart than the row is long.
        let skips = usize::try_from(cx.op().int("max_skip_count", 0)).unwrap_or(0);
        let longest = *self.lengths.end().min(&size);
        let mut gram = Vec::new();
        for (row, counts) in counts.chunks_exact_mut(self.width).enumerate() {
            let items = &items[row * size..][..size];
            for length in *self.lengths.start()..=longest {
                let distances = match length {
                    1 => 1,
                    _ => skips.saturating_add(1).min(size),
                };
                for distance in 1..=distances {
                    let extent = (length - 1) * distance;
                    for start in 0..size.saturating_sub(extent) {
                        gram.clear();
                        gram.extend(
                            items[start..]
                                .iter()
                                .step_by(distance)
                                .take(length)
                                .cloned(),
                        );
                        if let Some(&place) = self.places.get(&gram[..]) {
                            counts[place] += 1;
                        }
                    }
                }
            }
        }
        counts
    }
}
