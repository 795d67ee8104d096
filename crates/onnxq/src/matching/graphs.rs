//! [`Graphs`]: every graph of a model, numbered, and the values in them by name.

use std::collections::HashMap;

use onnxq_ir::{Graph, Model, Node, NodeId, ValueId};

/// A value of a model: in which of its [`Graphs`], and which.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Place {
    pub graph: usize,
    pub value: ValueId,
}

/// The main graph, which is number 0, and all regions, outer before inner ones, in canonical
/// order. Bodies of functions are not among them.
#[derive(Debug)]
pub struct Graphs<'m> {
    graphs: Vec<&'m Graph>,
    /// Where each graph is: the results of the nodes around it, and the attributes.
    paths: Vec<String>,
    by_address: HashMap<usize, usize>,
    by_name: HashMap<&'m str, Vec<Place>>,
}

impl<'m> Graphs<'m> {
    /// Those of a model.
    pub fn new(model: &'m Model) -> Graphs<'m> {
        let mut all = Graphs {
            graphs: vec![&model.graph],
            paths: vec![String::new()],
            by_address: HashMap::new(),
            by_name: HashMap::new(),
        };
        let mut next = 0;
        while next < all.graphs.len() {
            let graph = all.graphs[next];
            all.add(graph, next);
            next += 1;
        }
        all
    }

    fn add(&mut self, graph: &'m Graph, number: usize) {
        self.by_address.insert(address(graph), number);
        for n in graph.order() {
            let node = graph.node(n);
            for (i, value) in node.results.iter().enumerate() {
                if !value.name.is_empty() {
                    let value_id = graph.result(n, i);
                    self.by_name.entry(&value.name).or_default().push(Place {
                        graph: number,
                        value: value_id,
                    });
                }
            }
            let Some(op) = node.op() else { continue };
            let owner = node.results.first().map_or("", |v| v.name.as_str());
            for (attribute, region) in op.regions() {
                let path = format!("{}/{owner}.{attribute}", self.paths[number]);
                self.graphs.push(region);
                self.paths.push(path);
            }
        }
    }

    /// The graphs with their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &'m Graph)> + use<'_, 'm> {
        self.graphs.iter().copied().enumerate()
    }

    /// The graph of this number.
    pub fn graph(&self, number: usize) -> &'m Graph {
        self.graphs[number]
    }

    /// The number of a graph of the model.
    pub fn number(&self, graph: &Graph) -> Option<usize> {
        self.by_address.get(&address(graph)).copied()
    }

    /// Where a graph is: empty for the main graph.
    pub(super) fn path(&self, number: usize) -> &str {
        &self.paths[number]
    }

    /// The value of this name. Where more than one graph has one: that of the graph at `path`, else
    /// the outermost.
    pub(super) fn find(&self, name: &str, path: &str) -> Option<Place> {
        let found = self.by_name.get(name)?;
        let there = found.iter().find(|p| self.paths[p.graph] == path);
        there.or(found.first()).copied()
    }

    /// The node that a value is a result of.
    pub fn node(&self, place: Place) -> &'m Node {
        self.graphs[place.graph].node(place.value.node)
    }

    /// The name of a value.
    pub fn name(&self, place: Place) -> &'m str {
        &self.graphs[place.graph].value(place.value).name
    }

    /// By graph, then by vertex: which values depend on constants alone.
    pub(super) fn constants(&self) -> Vec<Vec<bool>> {
        let of = |graph: &Graph| {
            let mut constant = vec![false; graph.node_bound()];
            let listed = graph.inputs();
            for n in graph.order() {
                constant[n.index()] = is_constant(graph, n, &constant) && !listed.contains(&n);
            }
            constant
        };
        self.graphs.iter().map(|graph| of(graph)).collect()
    }
}

fn is_constant(graph: &Graph, n: NodeId, constant: &[bool]) -> bool {
    let node = graph.node(n);
    let Some(op) = node.op() else {
        return node.is_constant();
    };
    let operands = graph.operands(n);
    let mut given = operands.iter().flatten().peekable();
    let random = op.op_type.starts_with("Random") || op.regions().next().is_some();
    op.is("Constant")
        || !random && given.peek().is_some() && given.all(|v| constant[v.node.index()])
}

/// What tells a graph from others as long as the model is borrowed.
fn address(graph: &Graph) -> usize {
    (&raw const *graph).addr()
}
