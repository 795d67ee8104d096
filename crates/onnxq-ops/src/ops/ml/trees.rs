//! TreeEnsemble, and TreeEnsembleRegressor before it: the leaves that a row of features comes to,
//! one in each tree, add up (or are averaged, or the least or largest counts) to its targets.

use std::collections::HashMap;

use onnxq_ir::{Attr, Op};
use onnxq_tensor::{DType, Dim, Shape};

use super::{ML, Transform, features::numbers};
use crate::{
    EvalContext, EvalError, InferContext, Operator, Unknown, Value,
    ops::{numeric::real_tensor, rules},
};

pub(super) struct TreeEnsemble;
pub(super) struct TreeEnsembleRegressor;

/// How a node compares a feature with its number.
#[derive(Clone, Copy, PartialEq)]
enum Mode {
    LessOrEqual,
    Less,
    GreaterOrEqual,
    Greater,
    Equal,
    NotEqual,
    /// Whether it is in a set.
    Member,
}

/// Where a branch goes.
#[derive(Clone, Copy)]
enum Next {
    Node(usize),
    /// A group of leaves.
    Leaf(usize),
}

struct Branch {
    feature: usize,
    mode: Mode,
    split: f64,
    members: Vec<f64>,
    /// Whether a feature that is no number takes the first way.
    nan_is_true: bool,
    if_true: Next,
    if_false: Next,
}

#[derive(Clone, Copy, PartialEq)]
enum Aggregate {
    Average,
    Sum,
    Min,
    Max,
}

struct Ensemble {
    roots: Vec<Next>,
    branches: Vec<Branch>,
    /// Groups of target and weight.
    leaves: Vec<Vec<(usize, f64)>>,
    targets: usize,
    aggregate: Aggregate,
    base: Vec<f64>,
    transform: Transform,
}

impl Ensemble {
    fn evaluate(&self, cx: &EvalContext<'_>, dtype: DType) -> Result<Vec<Value>, EvalError> {
        let &[rows, features] = cx.tensor(0)?.dims() else {
            return Err(cx.invalid("features that are not of rank 2"));
        };
        let dims = [rows, self.targets];
        let mut y = Vec::with_capacity(rules::limited(&dims)?);
        let x = numbers(cx)?;
        for row in 0..rows {
            let x = &x[row * features..][..features];
            let mut found: Vec<Option<f64>> = vec![None; self.targets];
            for &root in &self.roots {
                for &(target, weight) in self.leaf(cx, root, x)? {
                    let slot = found.get_mut(target);
                    let slot = slot.ok_or_else(|| cx.invalid(format!("target {target}")))?;
                    *slot = Some(match (*slot, self.aggregate) {
                        (None, _) => weight,
                        (Some(old), Aggregate::Min) => old.min(weight),
                        (Some(old), Aggregate::Max) => old.max(weight),
                        (Some(old), _) => old + weight,
                    });
                }
            }
            let count = match self.aggregate {
                Aggregate::Average => self.roots.len().max(1) as f64,
                _ => 1.0,
            };
            let score = |(t, v): (usize, Option<f64>)| {
                v.unwrap_or(0.0) / count + self.base.get(t).copied().unwrap_or(0.0)
            };
            let mut scores: Vec<f64> = found.into_iter().enumerate().map(score).collect();
            self.transform.apply(&mut scores);
            y.append(&mut scores);
        }
        Ok(vec![real_tensor(dtype, &dims, y)?])
    }

    /// The leaves that a row comes to from `at`.
    fn leaf(
        &self,
        cx: &EvalContext<'_>,
        mut at: Next,
        x: &[f64],
    ) -> Result<&[(usize, f64)], EvalError> {
        // A way that is longer than there are nodes goes in circles.
        for _ in 0..=self.branches.len() {
            let node = match at {
                Next::Leaf(group) => return Ok(self.leaves.get(group).map_or(&[], Vec::as_slice)),
                Next::Node(node) => self.branches.get(node),
            };
            let node = node.ok_or_else(|| cx.invalid("a branch to no node"))?;
            let value = *x
                .get(node.feature)
                .ok_or_else(|| cx.invalid("a feature too many"))?;
            let holds = match node.mode {
                _ if value.is_nan() && node.nan_is_true => true,
                Mode::LessOrEqual => value <= node.split,
                Mode::Less => value < node.split,
                Mode::GreaterOrEqual => value >= node.split,
                Mode::Greater => value > node.split,
                Mode::Equal => value == node.split,
                Mode::NotEqual => value != node.split,
                Mode::Member => node.members.contains(&value),
            };
            at = if holds { node.if_true } else { node.if_false };
        }
        Err(cx.invalid("a tree that goes in circles"))
    }
}

/// The attribute `key` as numbers: a tensor, or a list of floats.
fn floats(op: &Op, key: &str) -> Result<Vec<f64>, EvalError> {
    let tensor = op
        .attr(key)
        .or_else(|| op.attr(&format!("{key}_as_tensor")));
    Ok(match tensor {
        Some(Attr::Tensor(t)) => t.cast(DType::F64, true)?.to_f64s()?.into_owned(),
        Some(Attr::Floats(list)) => list.iter().map(|&x| f64::from(x)).collect(),
        _ => Vec::new(),
    })
}

fn sizes(cx: &EvalContext<'_>, key: &str) -> Result<Vec<usize>, EvalError> {
    let ints = cx.op().ints(key).unwrap_or_default();
    let sizes: Option<Vec<usize>> = ints.iter().map(|&i| usize::try_from(i).ok()).collect();
    sizes.ok_or_else(|| cx.invalid(format!("attribute '{key}' has a negative entry")))
}

/// Entry `i` of the list in attribute `key`.
fn entry<T: Copy>(cx: &EvalContext<'_>, list: &[T], i: usize, key: &str) -> Result<T, EvalError> {
    let entry = list.get(i).copied();
    entry.ok_or_else(|| cx.invalid(format!("attribute '{key}' is too short")))
}

fn targets(op: &Op) -> Option<usize> {
    usize::try_from(op.attr("n_targets").and_then(Attr::as_int)?).ok()
}

fn infer_ensemble(cx: &mut InferContext<'_>, dtype: DType) -> Result<(), Unknown> {
    cx.set_dtype(0, dtype);
    let targets = targets(cx.op()).map_or(Dim::UNKNOWN, |n| Dim::known(n as i64));
    match &cx.shape(0)?[..] {
        [rows, _] => cx.set_tensor(0, dtype, Shape::from_iter([rows.clone(), targets])),
        _ => return Err(Unknown::new("features that are not of rank 2")),
    }
    Ok(())
}

impl Operator for TreeEnsemble {
    fn domain(&self) -> &'static str {
        ML
    }

    fn name(&self) -> &'static str {
        "TreeEnsemble"
    }

    fn since(&self) -> &'static [i64] {
        &[5]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        let dtype = cx.dtype(0)?;
        infer_ensemble(cx, dtype)
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let op = cx.op();
        let modes = match op.attr("nodes_modes").and_then(Attr::as_tensor) {
            Some(t) => t.to_i64s()?,
            None => return Err(cx.invalid("attribute 'nodes_modes' is missing")),
        };
        let members = floats(op, "membership_values")?;
        let mut sets = members.split(|x| x.is_nan());
        let splits = floats(op, "nodes_splits")?;
        let (features, nan) = (
            sizes(cx, "nodes_featureids")?,
            sizes(cx, "nodes_missing_value_tracks_true")?,
        );
        let way = |leafs: &str, ids: &str| -> Result<Vec<Next>, EvalError> {
            let next = |(leaf, id): (usize, usize)| match leaf {
                0 => Next::Node(id),
                _ => Next::Leaf(id),
            };
            Ok(sizes(cx, leafs)?
                .into_iter()
                .zip(sizes(cx, ids)?)
                .map(next)
                .collect())
        };
        let if_true = way("nodes_trueleafs", "nodes_truenodeids")?;
        let if_false = way("nodes_falseleafs", "nodes_falsenodeids")?;
        let mut branches = Vec::with_capacity(modes.len());
        for (i, &mode) in modes.iter().enumerate() {
            let mode = match mode {
                0 => Mode::LessOrEqual,
                1 => Mode::Less,
                2 => Mode::GreaterOrEqual,
                3 => Mode::Greater,
                4 => Mode::Equal,
                5 => Mode::NotEqual,
                6 => Mode::Member,
                other => return Err(cx.invalid(format!("a node of mode {other}"))),
            };
            branches.push(Branch {
                feature: entry(cx, &features, i, "nodes_featureids")?,
                mode,
                split: entry(cx, &splits, i, "nodes_splits")?,
                members: match mode {
                    Mode::Member => sets.next().unwrap_or_default().to_vec(),
                    _ => Vec::new(),
                },
                nan_is_true: nan.get(i).is_some_and(|&n| n != 0),
                if_true: entry(cx, &if_true, i, "nodes_trueleafs")?,
                if_false: entry(cx, &if_false, i, "nodes_falseleafs")?,
            });
        }
        let leaf = |(target, weight)| vec![(target, weight)];
        let ids = sizes(cx, "leaf_targetids")?.into_iter();
        let ensemble = Ensemble {
            roots: sizes(cx, "tree_roots")?
                .into_iter()
                .map(Next::Node)
                .collect(),
            branches,
            leaves: ids.zip(floats(op, "leaf_weights")?).map(leaf).collect(),
            targets: targets(op).unwrap_or(0),
            aggregate: match op.int("aggregate_function", 1) {
                0 => Aggregate::Average,
                1 => Aggregate::Sum,
                2 => Aggregate::Min,
                3 => Aggregate::Max,
                other => {
                    return Err(cx.invalid(format!("attribute 'aggregate_function' is {other}")));
                }
            },
            base: Vec::new(),
            transform: match op.int("post_transform", 0) {
                0 => Transform::None,
                1 => Transform::Softmax,
                2 => Transform::Logistic,
                3 => Transform::SoftmaxZero,
                other => return Err(cx.unsupported(format!("post_transform {other}"))),
            },
        };
        ensemble.evaluate(cx, cx.tensor(0)?.dtype())
    }
}

impl Operator for TreeEnsembleRegressor {
    fn domain(&self) -> &'static str {
        ML
    }

    fn name(&self) -> &'static str {
        "TreeEnsembleRegressor"
    }

    fn since(&self) -> &'static [i64] {
        &[1, 3, 5]
    }

    fn infer(&self, cx: &mut InferContext<'_>) -> Result<(), Unknown> {
        infer_ensemble(cx, DType::F32)
    }

    fn eval(&self, cx: &EvalContext<'_>) -> Result<Vec<Value>, EvalError> {
        let op = cx.op();
        let Some(Attr::Strings(modes)) = op.attr("nodes_modes") else {
            return Err(cx.invalid("attribute 'nodes_modes' is missing"));
        };
        let (trees, ids) = (sizes(cx, "nodes_treeids")?, sizes(cx, "nodes_nodeids")?);
        let keys: Vec<(usize, usize)> = trees.into_iter().zip(ids).collect();
        let places: HashMap<(usize, usize), usize> = keys.iter().copied().zip(0..).collect();
        // The leaves of a node, by the place of the node.
        let mut leaves = vec![Vec::new(); modes.len()];
        let votes = sizes(cx, "target_treeids")?
            .into_iter()
            .zip(sizes(cx, "target_nodeids")?);
        let weights = sizes(cx, "target_ids")?
            .into_iter()
            .zip(floats(op, "target_weights")?);
        for (key, vote) in votes.zip(weights) {
            let group = places.get(&key).and_then(|&p| leaves.get_mut(p));
            group
                .ok_or_else(|| cx.invalid(format!("a vote of no node {key:?}")))?
                .push(vote);
        }
        let splits = floats(op, "nodes_values")?;
        let features = sizes(cx, "nodes_featureids")?;
        let nan = sizes(cx, "nodes_missing_value_tracks_true")?;
        let (if_true, if_false) = (
            sizes(cx, "nodes_truenodeids")?,
            sizes(cx, "nodes_falsenodeids")?,
        );
        let next = |place: usize| match modes.get(place).map(|m| &m[..]) {
            Some(b"LEAF") => Next::Leaf(place),
            _ => Next::Node(place),
        };
        let way = |i: usize, ids: &[usize]| -> Result<Next, EvalError> {
            let key = (
                entry(cx, &keys, i, "nodes_nodeids")?.0,
                entry(cx, ids, i, "nodes_truenodeids")?,
            );
            let place = places.get(&key).copied();
            place
                .map(next)
                .ok_or_else(|| cx.invalid(format!("a branch to no node {key:?}")))
        };
        let mut branches = Vec::with_capacity(modes.len());
        for (i, mode) in modes.iter().enumerate() {
            let is_leaf = &mode[..] == b"LEAF";
            let mode = match &mode[..] {
                b"BRANCH_LEQ" | b"LEAF" => Mode::LessOrEqual,
                b"BRANCH_LT" => Mode::Less,
                b"BRANCH_GTE" => Mode::GreaterOrEqual,
                b"BRANCH_GT" => Mode::Greater,
                b"BRANCH_EQ" => Mode::Equal,
                b"BRANCH_NEQ" => Mode::NotEqual,
                other => {
                    let mode = String::from_utf8_lossy(other);
                    return Err(cx.invalid(format!("a node of mode '{mode}'")));
                }
            };
            branches.push(Branch {
                feature: entry(cx, &features, i, "nodes_featureids")?,
                mode,
                split: entry(cx, &splits, i, "nodes_values")?,
                members: Vec::new(),
                nan_is_true: nan.get(i).is_some_and(|&n| n != 0),
                if_true: if is_leaf {
                    Next::Leaf(i)
                } else {
                    way(i, &if_true)?
                },
                if_false: if is_leaf {
                    Next::Leaf(i)
                } else {
                    way(i, &if_false)?
                },
            });
        }
        // A tree begins with its first node.
        let firsts = (0..keys.len()).filter(|&i| i == 0 || keys[i].0 != keys[i - 1].0);
        let ensemble = Ensemble {
            roots: firsts.map(next).collect(),
            branches,
            leaves,
            targets: targets(op).unwrap_or(0),
            aggregate: match op.str("aggregate_function").unwrap_or("SUM") {
                "AVERAGE" => Aggregate::Average,
                "SUM" => Aggregate::Sum,
                "MIN" => Aggregate::Min,
                "MAX" => Aggregate::Max,
                other => {
                    return Err(cx.invalid(format!("attribute 'aggregate_function' is '{other}'")));
                }
            },
            base: floats(op, "base_values")?,
            transform: Transform::of(cx, op.str("post_transform").unwrap_or("NONE"))?,
        };
        ensemble.evaluate(cx, DType::F32)
    }
}
