//! Why a model has no graph.

/// A model that cannot be built: the file is at fault.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum Error {
    #[error("graph '{graph}': value '{value}' is defined more than once")]
    Duplicate { graph: String, value: String },
    #[error("graph '{graph}': an input or initializer has no name")]
    EmptyName { graph: String },
    #[error("graph '{graph}': node {node} reads '{value}', which nothing defines")]
    Undefined {
        graph: String,
        node: String,
        value: String,
    },
    #[error("graph '{graph}': output '{value}' is not defined")]
    UndefinedOutput { graph: String, value: String },
    #[error("graph '{graph}': node {node} depends on its own result")]
    Cycle { graph: String, node: String },
    #[error("function '{0}' is defined more than once")]
    DuplicateFunction(String),
    #[error("graphs are nested more than {limit} deep")]
    TooDeep { limit: usize },
}
