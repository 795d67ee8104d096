//! Analyses of a graph, cached by type and revision.

use std::{
    any::{Any, TypeId},
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use onnxq_ir::{Graph, Model};

/// A function of a graph that is worth keeping: liveness, value ranges, users by layer.
pub trait Analysis: Any + Send + Sync {
    /// Computes it.
    fn compute(graph: &Graph) -> Self;
}

/// The analyses computed so far.
///
/// Revisions are unique among all graphs, so an entry can never be of another graph or of an
/// earlier state.
#[derive(Default)]
pub struct Analyses {
    cache: HashMap<(TypeId, u64), Arc<dyn Any + Send + Sync>>,
}

impl Analyses {
    /// A pass that asks again after each of its changes fills the cache with what nobody will
    /// ask for; it is emptied at this size.
    const LIMIT: usize = 4096;

    /// The analysis `A` of the graph as it is now.
    pub fn get<A: Analysis>(&mut self, graph: &Graph) -> Arc<A> {
        let key = (TypeId::of::<A>(), graph.revision());
        if let Some(found) = self.cache.get(&key)
            && let Ok(found) = Arc::clone(found).downcast()
        {
            return found;
        }
        if self.cache.len() >= Analyses::LIMIT {
            self.cache.clear();
        }
        let computed = Arc::new(A::compute(graph));
        self.cache.insert(key, computed.clone());
        computed
    }

    /// Forgets the analyses of graphs that are not, or no longer, in `model`.
    pub(crate) fn retain(&mut self, model: &Model) {
        if self.cache.is_empty() {
            return;
        }
        let mut live = BTreeSet::new();
        model.for_each_graph(|graph| {
            live.insert(graph.revision());
        });
        self.cache
            .retain(|(_, revision), _| live.contains(revision));
    }
}

impl std::fmt::Debug for Analyses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Analyses")
            .field("cached", &self.cache.len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    static COMPUTED: AtomicUsize = AtomicUsize::new(0);

    struct Inputs(usize);

    impl Analysis for Inputs {
        fn compute(graph: &Graph) -> Inputs {
            COMPUTED.fetch_add(1, Ordering::Relaxed);
            Inputs(graph.inputs().len())
        }
    }

    #[test]
    fn computes_once_per_revision() {
        let mut analyses = Analyses::default();
        let mut model = Model::default();
        model.graph.add_input("x", None);
        assert_eq!(analyses.get::<Inputs>(&model.graph).0, 1);
        assert_eq!(analyses.get::<Inputs>(&model.graph).0, 1);
        assert_eq!(COMPUTED.load(Ordering::Relaxed), 1);
        model.graph.add_input("y", None);
        assert_eq!(analyses.get::<Inputs>(&model.graph).0, 2);
        assert_eq!(COMPUTED.load(Ordering::Relaxed), 2);
        assert_eq!(analyses.cache.len(), 2);
        analyses.retain(&model);
        assert_eq!(analyses.cache.len(), 1);
    }
}
