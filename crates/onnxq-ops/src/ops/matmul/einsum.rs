//! Einsum: a sum over named axes of products of tensors.
//!
//! Evaluated two tensors at a time: axes of one alone are summed first, then each pair becomes a
//! stack of matrix products. An axis of one element broadcasts.

use std::{collections::BTreeMap, num::Wrapping};

use ndarray::LinalgScalar;
use onnxq_tensor::{Dim, Dims, Shape, Tensor};

use super::product::{Stacks, wrapped};
use crate::{
    EvalContext, EvalError, InferContext, Operator, Unknown, Value,
    ops::{
        numeric::{Real, advance, int_tensor, product, real_tensor, strides_of, with_real},
        rules,
    },
};

pub(super) struct Einsum;

impl Operator for Einsum {
    fn name(&self) -> &'static str {
        "Einsum"
    }

    fn since(&self) -> &'static [i64] {
        &[12, 28]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let dtype = cx.dtype(0)?;
        cx.set_dtype(0, dtype);
        let shapes: Vec<&Shape> = (0..cx.len())
            .map(|i| cx.shape(i))
            .collect::<Result<_, _>>()?;
        let ranks: Vec<usize> = shapes.iter().map(|s| s.len()).collect();
        let equation = cx.op().str("equation").unwrap_or_default();
        let (terms, output) = parse(equation, &ranks).map_err(Unknown)?;
        let mut sizes: BTreeMap<Label, Dim> = BTreeMap::new();
        for (label, dim) in terms.iter().flatten().zip(shapes.into_iter().flatten()) {
            let known = sizes.entry(*label).or_insert_with(|| dim.clone());
            let constant = known.as_const();
            if constant == Some(1) || (constant.is_none() && dim.as_const().is_some_and(|d| d > 1))
            {
                *known = dim.clone();
            }
        }
        let shape = output.iter().map(|l| sizes[l].clone()).collect();
        cx.set_tensor(0, dtype, shape);
        Ok(())
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let tensors: Vec<&Tensor> = (0..cx.len())
            .map(|i| cx.tensor(i))
            .collect::<Result<_, _>>()?;
        let dtype = cx.tensor(0)?.dtype();
        let ranks: Vec<usize> = tensors.iter().map(|t| t.rank()).collect();
        let equation = cx.op().str("equation").unwrap_or_default();
        let (labels, output) = parse(equation, &ranks).map_err(|e| cx.invalid(e))?;
        if tensors.iter().any(|t| t.dtype() != dtype) {
            return Err(cx.invalid("operands of different element types"));
        }
        if dtype.is_int() {
            let terms = tensors.iter().zip(labels).map(|(t, labels)| {
                Ok(Term {
                    labels,
                    dims: t.dims().into(),
                    data: wrapped(t)?.into_iter().map(Wrapping).collect(),
                })
            });
            let y = contract_all(terms.collect::<Result<_, EvalError>>()?, &output)?;
            let data = y.data.into_iter().map(|x| x.0).collect();
            return Ok(vec![int_tensor(dtype, &y.dims, data)?]);
        }
        with_real!(cx, dtype, T => {
            let terms = tensors.iter().zip(labels).map(|(t, labels)| {
                Ok(Term {
                    labels,
                    dims: t.dims().into(),
                    data: T::read(t)?.into_owned(),
                })
            });
            let y = contract_all(terms.collect::<Result<_, EvalError>>()?, &output)?;
            Ok(vec![real_tensor(dtype, &y.dims, y.data)?])
        })
    }
}

/// The name of an axis: a letter, or the distance from the end of the axes an ellipsis stands for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Label {
    Rest(usize),
    Letter(char),
}

/// The labels of each operand, and of the result.
fn parse(equation: &str, ranks: &[usize]) -> Result<(Vec<Vec<Label>>, Vec<Label>), String> {
    let equation: String = equation.chars().filter(|c| !c.is_whitespace()).collect();
    let (left, right) = match equation.split_once("->") {
        Some((left, right)) => (left, Some(right)),
        None => (equation.as_str(), None),
    };
    let texts: Vec<&str> = left.split(',').collect();
    if texts.len() != ranks.len() {
        return Err(format!("{} terms, {} operands", texts.len(), ranks.len()));
    }
    let terms: Vec<Vec<Label>> = texts
        .iter()
        .zip(ranks)
        .map(|(text, &rank)| term(text, Some(rank)))
        .collect::<Result<_, _>>()?;
    let rest = terms
        .iter()
        .flatten()
        .filter(|l| matches!(l, Label::Rest(_)));
    let rest = rest.collect::<std::collections::BTreeSet<_>>().len();
    let output: Vec<Label> = match right {
        Some(text) => term(text, None)?
            .into_iter()
            .flat_map(|label| match label {
                Label::Rest(_) => (0..rest).rev().map(Label::Rest).collect(),
                letter => vec![letter],
            })
            .collect(),
        None => {
            let mut counts: BTreeMap<Label, usize> = BTreeMap::new();
            for label in terms.iter().flatten() {
                *counts.entry(*label).or_default() += 1;
            }
            let once = |(l, n)| (n == 1 && matches!(l, Label::Letter(_))).then_some(l);
            let ellipsis = (0..rest).rev().map(Label::Rest);
            ellipsis
                .chain(counts.into_iter().filter_map(once))
                .collect()
        }
    };
    let mut seen = std::collections::BTreeSet::new();
    for label in &output {
        if !seen.insert(*label) || !terms.iter().flatten().any(|l| l == label) {
            return Err(format!(
                "the result of '{equation}' has an axis from nowhere, or twice"
            ));
        }
    }
    Ok((terms, output))
}

/// The labels of one term; without a rank an ellipsis is one label.
fn term(text: &str, rank: Option<usize>) -> Result<Vec<Label>, String> {
    let letters = |part: &str| -> Result<Vec<Label>, String> {
        match part.chars().find(|c| !c.is_ascii_alphabetic()) {
            Some(other) => Err(format!("'{other}' in the equation")),
            None => Ok(part.chars().map(Label::Letter).collect()),
        }
    };
    let mut labels = match text.split_once("...") {
        None => letters(text)?,
        Some((before, after)) => {
            let (mut labels, after) = (letters(before)?, letters(after)?);
            let named = labels.len() + after.len();
            let count = rank.map_or(Some(1), |rank| rank.checked_sub(named));
            let count = count.ok_or_else(|| format!("'{text}' has too many axes"))?;
            labels.extend((0..count).rev().map(Label::Rest));
            labels.extend(after);
            labels
        }
    };
    if rank.is_some_and(|rank| rank != labels.len()) {
        // A scalar may be written with no letters at all.
        return Err(format!("'{text}' for an operand of rank {rank:?}"));
    }
    labels.shrink_to_fit();
    Ok(labels)
}

struct Term<T> {
    labels: Vec<Label>,
    dims: Dims,
    data: Vec<T>,
}

fn contract_all<T: LinalgScalar>(
    mut terms: Vec<Term<T>>,
    output: &[Label],
) -> Result<Term<T>, EvalError> {
    let mut sizes: BTreeMap<Label, usize> = BTreeMap::new();
    for term in &terms {
        for (&label, &n) in term.labels.iter().zip(&term.dims) {
            let size = sizes.entry(label).or_insert(n);
            if *size == 1 {
                *size = n;
            } else if n != *size && n != 1 {
                let message = format!("an axis of {size} and of {n} elements");
                return Err(EvalError::Invalid(message));
            }
        }
    }
    // An axis of one that another has more of is no axis.
    for term in &mut terms {
        let axes = 0..term.labels.len();
        let keep: Vec<usize> = axes
            .filter(|&i| term.dims[i] == sizes[&term.labels[i]])
            .collect();
        term.dims = keep.iter().map(|&i| term.dims[i]).collect();
        term.labels = keep.iter().map(|&i| term.labels[i]).collect();
    }
    terms.reverse();
    let mut all = terms.pop().ok_or(EvalError::Missing { index: 0 })?;
    while let Some(next) = terms.pop() {
        let later = |l: &Label| output.contains(l) || terms.iter().any(|t| t.labels.contains(l));
        all = contract(all, next, later)?;
    }
    all.arrange(output)
}

/// The product of two terms, summed over the labels that nobody needs later.
fn contract<T: LinalgScalar>(
    a: Term<T>,
    b: Term<T>,
    later: impl Fn(&Label) -> bool,
) -> Result<Term<T>, EvalError> {
    let (mut stack, mut rows, mut inner, mut columns) = (vec![], vec![], vec![], vec![]);
    let distinct = |labels: &[Label]| {
        let mut seen: Vec<Label> = Vec::new();
        for &label in labels {
            if !seen.contains(&label) {
                seen.push(label);
            }
        }
        seen
    };
    for label in distinct(&a.labels) {
        match (b.labels.contains(&label), later(&label)) {
            (true, true) => stack.push(label),
            (true, false) => inner.push(label),
            (false, true) => rows.push(label),
            (false, false) => {}
        }
    }
    columns.extend(
        distinct(&b.labels)
            .into_iter()
            .filter(|l| !a.labels.contains(l) && later(l)),
    );
    let a = a.arrange(&[&stack[..], &rows, &inner].concat())?;
    let b = b.arrange(&[&stack[..], &inner, &columns].concat())?;
    let (s, r) = (stack.len(), rows.len());
    let flat = |dims: &[usize]| product(dims);
    let left = [
        flat(&a.dims[..s]),
        flat(&a.dims[s..s + r]),
        flat(&a.dims[s + r..]),
    ];
    let k = inner.len();
    let right = [left[0], left[2], flat(&b.dims[s + k..])];
    let data = Stacks::of(&left, &right, false, false)?.multiply(&a.data, &b.data, T::one());
    let mut dims: Dims = a.dims[..s + r].into();
    dims.extend_from_slice(&b.dims[s + k..]);
    let labels = [stack, rows, columns].concat();
    Ok(Term { labels, dims, data })
}

impl<T: LinalgScalar> Term<T> {
    /// The same with these axes in this order: others are summed, repeated ones give diagonals.
    fn arrange(self, labels: &[Label]) -> Result<Term<T>, EvalError> {
        if self.labels == labels {
            return Ok(self);
        }
        let strides = strides_of(&self.dims);
        let axis = |label: &Label| {
            let same = self.labels.iter().enumerate().filter(|(_, l)| *l == label);
            let (mut n, mut step) = (1, 0);
            for (i, _) in same {
                n = self.dims[i];
                step += strides[i];
            }
            (n, step)
        };
        let mut summed: Vec<Label> = Vec::new();
        for label in &self.labels {
            if !labels.contains(label) && !summed.contains(label) {
                summed.push(*label);
            }
        }
        let (dims, steps): (Dims, Dims) = labels.iter().map(axis).unzip();
        let (more, more_steps): (Dims, Dims) = summed.iter().map(axis).unzip();
        let mut data = vec![T::zero(); rules::limited(&dims)?];
        if !data.is_empty() && !self.data.is_empty() {
            let (mut index, mut at) = (vec![0; dims.len()], [0]);
            for y in &mut data {
                let (mut inner, mut offset) = (vec![0; more.len()], at);
                loop {
                    *y = *y + self.data[offset[0]];
                    if !advance(&mut inner, &more, [&more_steps], &mut offset) {
                        break;
                    }
                }
                advance(&mut index, &dims, [&steps], &mut at);
            }
        }
        let labels = labels.to_vec();
        Ok(Term { labels, dims, data })
    }
}
