//! What regions capture from the graphs around them.

use crate::{Graph, NodeId, NodeKind, Value, ValueId, deep};

impl Graph {
    /// Copies captured constants into the regions that use them (the bytes are shared), here and
    /// in all regions: import does so, and a value that became constant since is copied by this.
    /// Returns how many copies were made.
    ///
    /// The captures stay until the next sweep. A constant that callers may override is not copied.
    pub fn sink_captured_constants(&mut self) -> usize {
        deep(|| {
            let mut sunk = 0;
            for n in self.op_order() {
                sunk += self.sink_into(n);
            }
            sunk
        })
    }

    fn sink_into(&mut self, n: NodeId) -> usize {
        let captures = self.op(n).map_or(0, |op| op.captures);
        let operands = self.operands(n);
        let first = operands.len().saturating_sub(captures);
        let mut constants = Vec::new();
        for (i, v) in operands[first..].iter().enumerate() {
            let Some(v) = v else { continue };
            let node = self.node(v.node);
            if let NodeKind::Constant(c) = &node.kind
                && !self.inputs().contains(&v.node)
            {
                constants.push((i, c.value.clone(), self.value(*v).name.clone()));
            }
        }
        let Some(op) = self.nodes[n].op_mut() else {
            return 0;
        };
        let mut sunk = 0;
        for region in op.regions_mut() {
            let first = region.inputs().len().saturating_sub(captures);
            for (i, literal, name) in &constants {
                let old = ValueId {
                    node: region.inputs()[first + i],
                    result: 0,
                };
                if region.is_used(old) {
                    let value = Value::new(name.clone(), None);
                    let new = region.add_literal(value, literal.clone(), true);
                    region.replace_uses(old, new);
                    sunk += 1;
                }
            }
            sunk += region.sink_captured_constants();
        }
        if sunk > 0 {
            self.stamp();
        }
        sunk
    }
}
