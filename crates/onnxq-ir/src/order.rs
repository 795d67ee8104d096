//! Canonical order, and the sweep of what is not needed.

use petgraph::{Direction::Outgoing, stable_graph::StableDiGraph};

use crate::{Graph, Node, NodeId, NodeKind, ValueId, deep};

impl Graph {
    /// Every vertex but `Return` in canonical order: operands before their users, depth first
    /// from `Return`, operands left to right. What is not needed for a result comes after, from
    /// unused results sorted by name. The order depends on the structure and names of the graph
    /// alone, not on how it was edited.
    ///
    /// Vertices on a cycle are in the list too, each once, in an order that then means nothing.
    pub fn order(&self) -> Vec<NodeId> {
        let mut walk = Walk {
            graph: self,
            seen: vec![false; self.node_bound()],
            order: vec![],
        };
        walk.order.reserve(self.node_count());
        walk.from(self.ret());
        walk.order.pop();
        for &n in &self.inputs {
            walk.from(n);
        }
        let mut sinks: Vec<NodeId> = self
            .node_ids()
            .filter(|&n| !walk.seen[n.index()])
            .filter(|&n| !self.nodes.edges(n).any(|e| e.weight().is_live()))
            .collect();
        sinks.sort_by(|&a, &b| sink_key(self.node(a)).cmp(&sink_key(self.node(b))));
        for n in sinks {
            walk.from(n);
        }
        // Only cycles are left, which no sink reaches.
        for n in self.node_ids() {
            walk.from(n);
        }
        walk.order
    }

    /// The operations in canonical order.
    pub fn op_order(&self) -> Vec<NodeId> {
        let mut order = self.order();
        order.retain(|&n| self.op(n).is_some());
        order
    }

    /// Which vertices a result of the graph needs, indexed by `NodeId::index`.
    pub fn needed(&self) -> Vec<bool> {
        let mut walk = Walk {
            graph: self,
            seen: vec![false; self.node_bound()],
            order: vec![],
        };
        walk.from(self.ret());
        walk.seen
    }

    /// Removes the vertices that no result needs (inputs stay), here and in all regions, and the
    /// captures that no region uses. Returns how many vertices went.
    ///
    /// The indices of removed vertices are given to new ones later: no `NodeId` may be kept
    /// across a sweep unless its node certainly stays.
    pub fn sweep(&mut self) -> usize {
        deep(|| {
            let ids: Vec<NodeId> = self.node_ids().collect();
            let mut removed = 0;
            for &n in &ids {
                removed += self.sweep_regions(n);
            }
            let mut keep = self.needed();
            for &n in &self.inputs {
                keep[n.index()] = true;
            }
            let dead: Vec<NodeId> = ids.into_iter().filter(|&n| !keep[n.index()]).collect();
            if dead.is_empty() {
                return removed;
            }
            self.stamp();
            // Edges are set anew, because unlinking them one by one is quadratic.
            let mut edges: Vec<_> = self
                .live_edges()
                .filter(|(source, target, _)| keep[source.index()] && keep[target.index()])
                .collect();
            edges.sort_unstable_by_key(|&(_, target, e)| (target, e.operand));
            self.nodes.clear_edges();
            for node in self.nodes.node_weights_mut() {
                node.use_count = 0;
            }
            for &n in &dead {
                self.nodes.remove_node(n);
            }
            for (source, target, edge) in edges {
                let result = edge.result;
                let v = ValueId {
                    node: source,
                    result,
                };
                self.add_use(v, target, edge.operand);
            }
            removed + dead.len()
        })
    }

    fn sweep_regions(&mut self, n: NodeId) -> usize {
        let Some(op) = self.nodes[n].op_mut() else {
            return 0;
        };
        let captures = op.captures;
        let mut removed = 0;
        let mut used = vec![false; captures];
        for region in op.regions_mut() {
            removed += region.sweep();
            let first = region.inputs.len().saturating_sub(captures);
            for (used, &input) in used.iter_mut().zip(&region.inputs[first..]) {
                *used |= has_live_edge(&region.nodes, input);
            }
        }
        if used.iter().all(|&u| u) {
            if removed > 0 {
                self.stamp();
            }
            return removed;
        }
        for region in op.regions_mut() {
            let first = region.inputs.len().saturating_sub(captures);
            for i in (0..captures).rev().filter(|&i| !used[i]) {
                if first + i < region.inputs.len() {
                    let input = region.inputs.remove(first + i);
                    region.nodes.remove_node(input);
                    region.stamp();
                }
            }
        }
        op.captures = used.iter().filter(|&&u| u).count();
        let mut operands = self.operands(n);
        let first = operands.len().saturating_sub(captures);
        let mut i = 0;
        operands.retain(|_| {
            i += 1;
            i <= first || used[i - 1 - first]
        });
        self.set_operands(n, &operands);
        removed
    }
}

fn has_live_edge(nodes: &StableDiGraph<Node, crate::graph::Edge>, n: NodeId) -> bool {
    nodes
        .edges_directed(n, Outgoing)
        .any(|e| e.weight().is_live())
}

fn sink_key(node: &Node) -> (u8, &str, &str) {
    let kind = match node.kind {
        NodeKind::Op(_) => 0,
        _ => 1,
    };
    (
        kind,
        node.results.first().map_or("", |v| v.name.as_str()),
        node.name.as_str(),
    )
}

/// Depth-first walk with its own stack: graphs are deep.
struct Walk<'a> {
    graph: &'a Graph,
    seen: Vec<bool>,
    order: Vec<NodeId>,
}

impl Walk<'_> {
    fn from(&mut self, root: NodeId) {
        if std::mem::replace(&mut self.seen[root.index()], true) {
            return;
        }
        let mut stack = vec![(root, self.sources(root))];
        while let Some((n, pending)) = stack.last_mut() {
            match pending.pop() {
                Some(m) => {
                    if !std::mem::replace(&mut self.seen[m.index()], true) {
                        stack.push((m, self.sources(m)));
                    }
                }
                None => {
                    self.order.push(*n);
                    stack.pop();
                }
            }
        }
    }

    /// The nodes of the operands, last first.
    fn sources(&self, n: NodeId) -> Vec<NodeId> {
        let operands = self.graph.operands(n);
        let captures = self.graph.op(n).map_or(0, |op| op.captures);
        let own = operands.len().saturating_sub(captures);
        // The text says captures by their names only, so their order must not matter.
        let mut captured: Vec<_> = operands[own..].iter().flatten().copied().collect();
        captured.sort_by(|&a, &b| self.graph.value(a).name.cmp(&self.graph.value(b).name));
        let all = operands[..own].iter().flatten().copied().chain(captured);
        let mut nodes: Vec<NodeId> = all.map(|v| v.node).collect();
        nodes.reverse();
        nodes
    }
}
