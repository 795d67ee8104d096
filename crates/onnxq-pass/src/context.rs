//! [`PassContext`]: what a pass sees besides the model.

use std::{
    any::{Any, TypeId},
    collections::HashMap,
    fmt,
    sync::Arc,
};

use serde_json::Value;

use crate::{Analyses, Level, Message, Progress};

type OnMessage = dyn FnMut(&Message);
type OnProgress = dyn FnMut(Progress<'_>);

/// What surrounds a pass: messages, analyses, the count of rewrites, and what the caller provides.
///
/// One context lives through a whole pipeline, and rewrites are numbered through all of it.
pub struct PassContext {
    /// Analyses, cached by type and revision.
    pub analyses: Analyses,
    threads: usize,
    verbose: bool,
    pass: String,
    messages: Vec<Message>,
    reports: Vec<Report>,
    on_message: Option<Box<OnMessage>>,
    on_progress: Option<Box<OnProgress>>,
    provided: HashMap<TypeId, Arc<dyn Any + Send + Sync>>,
    rewrites: u64,
    limit: Option<u64>,
}

/// What a pass has to tell programs.
#[derive(Clone, PartialEq, Debug)]
pub struct Report {
    /// The pass.
    pub pass: String,
    /// What it reports about.
    pub key: String,
    /// What it says.
    pub value: Value,
}

impl Default for PassContext {
    fn default() -> PassContext {
        PassContext {
            analyses: Analyses::default(),
            threads: 1,
            verbose: false,
            pass: String::new(),
            messages: Vec::new(),
            reports: Vec::new(),
            on_message: None,
            on_progress: None,
            provided: HashMap::new(),
            rewrites: 0,
            limit: None,
        }
    }
}

impl PassContext {
    /// A context with one thread, no limit on rewrites, and messages only kept.
    pub fn new() -> PassContext {
        PassContext::default()
    }

    /// The same with this many worker threads.
    #[must_use]
    pub fn with_threads(mut self, threads: usize) -> PassContext {
        self.threads = threads.max(1);
        self
    }

    /// The same with verbose messages kept too, or dropped.
    #[must_use]
    pub fn with_verbose(mut self, verbose: bool) -> PassContext {
        self.verbose = verbose;
        self
    }

    /// The same with rewrites ending after the first `limit`, each numbered and named in a
    /// message.
    #[must_use]
    pub fn with_rewrite_limit(mut self, limit: Option<u64>) -> PassContext {
        self.limit = limit;
        self
    }

    /// The same with a function that gets each message at once.
    #[must_use]
    pub fn on_message(mut self, f: impl FnMut(&Message) + 'static) -> PassContext {
        self.on_message = Some(Box::new(f));
        self
    }

    /// The same with a function that learns how far the work has come.
    #[must_use]
    pub fn on_progress(mut self, f: impl FnMut(Progress<'_>) + 'static) -> PassContext {
        self.on_progress = Some(Box::new(f));
        self
    }

    // What the caller provides.

    /// Hands something to the passes that ask for its type, such as calibration ranges.
    pub fn provide<T: Any + Send + Sync>(&mut self, value: T) {
        self.provided.insert(TypeId::of::<T>(), Arc::new(value));
    }

    /// What was provided of this type, by the caller or by an earlier pass.
    pub fn get<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        let found = self.provided.get(&TypeId::of::<T>())?;
        Arc::clone(found).downcast().ok()
    }

    /// How many worker threads a pass may use.
    pub fn threads(&self) -> usize {
        self.threads
    }

    // Messages.

    /// Says what a user may want to know.
    pub fn note(&mut self, text: impl fmt::Display) {
        self.message(Level::Note, text);
    }

    /// Says what a user should know.
    pub fn warning(&mut self, text: impl fmt::Display) {
        self.message(Level::Warning, text);
    }

    /// Says, under `-v`, why something was not done. Formats nothing otherwise.
    pub fn verbose(&mut self, text: impl fmt::Display) {
        if self.verbose {
            self.message(Level::Verbose, text);
        }
    }

    /// Whether verbose messages are wanted.
    pub fn is_verbose(&self) -> bool {
        self.verbose
    }

    fn message(&mut self, level: Level, text: impl fmt::Display) {
        let message = Message {
            level,
            pass: self.pass.clone(),
            text: text.to_string(),
        };
        if let Some(f) = &mut self.on_message {
            f(&message);
        }
        self.messages.push(message);
    }

    /// The messages so far.
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// Adds to the report for programs (`--json`).
    pub fn report(&mut self, key: impl Into<String>, value: impl Into<Value>) {
        self.reports.push(Report {
            pass: self.pass.clone(),
            key: key.into(),
            value: value.into(),
        });
    }

    /// The report so far.
    pub fn reports(&self) -> &[Report] {
        &self.reports
    }

    /// Says how much of a pass's work is done.
    pub fn progress(&mut self, what: &str, done: usize, total: usize) {
        self.tell(Progress::Step { what, done, total });
    }

    fn tell(&mut self, progress: Progress<'_>) {
        if let Some(f) = &mut self.on_progress {
            f(progress);
        }
    }

    // Rewrites.

    /// Asks for leave to rewrite at `at`, once the rewrite is decided and before anything
    /// changes. It is numbered and, while bisecting, named in a message. False past the limit:
    /// then nothing may change.
    #[must_use]
    pub fn begin_rewrite(&mut self, name: &str, at: impl fmt::Display) -> bool {
        if !self.may_rewrite() {
            return false;
        }
        self.rewrites += 1;
        if self.limit.is_some() {
            let number = self.rewrites;
            self.message(
                Level::Rewrite,
                format_args!("rewrite {number}: {name} at {at}"),
            );
        }
        true
    }

    /// Whether there may be another rewrite.
    pub fn may_rewrite(&self) -> bool {
        self.limit.is_none_or(|limit| self.rewrites < limit)
    }

    /// Whether rewrites are limited, and therefore named.
    pub fn is_bisecting(&self) -> bool {
        self.limit.is_some()
    }

    /// How many rewrites there were.
    pub fn rewrites(&self) -> u64 {
        self.rewrites
    }

    // The manager.

    pub(crate) fn enter_pass(&mut self, name: &str, index: usize, count: usize) {
        self.pass = name.to_owned();
        self.tell(Progress::Pass { name, index, count });
    }

    pub(crate) fn leave_pass(&mut self) {
        self.pass.clear();
    }
}

impl fmt::Debug for PassContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PassContext")
            .field("pass", &self.pass)
            .field("messages", &self.messages)
            .field("reports", &self.reports)
            .field("rewrites", &self.rewrites)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, rc::Rc};

    use super::*;

    #[test]
    fn messages_are_kept_and_passed_on() {
        let seen = Rc::new(RefCell::new(Vec::new()));
        let log = Rc::clone(&seen);
        let mut cx = PassContext::new().on_message(move |m| log.borrow_mut().push(m.to_string()));
        cx.enter_pass("toy", 0, 1);
        cx.note("one");
        cx.verbose("dropped");
        cx.warning(format_args!("two of {}", 2));
        assert_eq!(*seen.borrow(), ["note: one", "warning: two of 2"]);
        assert_eq!(cx.messages().len(), 2);
        let mut cx = PassContext::new().with_verbose(true);
        cx.enter_pass("toy", 0, 1);
        cx.verbose("kept");
        assert_eq!(cx.messages()[0].to_string(), "toy: kept");
    }

    #[test]
    fn provides_by_type() {
        let mut cx = PassContext::new();
        assert!(cx.get::<Vec<u8>>().is_none());
        cx.provide(vec![1u8]);
        cx.provide("text".to_owned());
        assert_eq!(*cx.get::<Vec<u8>>().unwrap(), [1]);
        assert_eq!(*cx.get::<String>().unwrap(), "text");
    }

    #[test]
    fn rewrites_are_numbered_up_to_the_limit() {
        let mut cx = PassContext::new();
        assert!(cx.begin_rewrite("fuse", "a"));
        assert!(cx.messages().is_empty());
        let mut cx = PassContext::new().with_rewrite_limit(Some(2));
        assert!(cx.begin_rewrite("fuse", "a"));
        assert!(cx.begin_rewrite("fold", "b"));
        assert!(!cx.begin_rewrite("fold", "c"));
        let texts: Vec<_> = cx.messages().iter().map(Message::to_string).collect();
        assert_eq!(texts, ["rewrite 1: fuse at a", "rewrite 2: fold at b"]);
        assert_eq!(cx.rewrites(), 2);
    }

    #[test]
    fn reports_name_the_pass() {
        let mut cx = PassContext::new();
        cx.enter_pass("toy", 0, 1);
        cx.report("quantized", 3);
        assert_eq!(cx.reports()[0].pass, "toy");
        assert_eq!(cx.reports()[0].value, 3);
    }

    #[test]
    fn progress_reaches_the_callback() {
        let seen = Rc::new(RefCell::new(Vec::new()));
        let log = Rc::clone(&seen);
        let mut cx =
            PassContext::new().on_progress(move |p| log.borrow_mut().push(format!("{p:?}")));
        cx.enter_pass("toy", 0, 2);
        cx.progress("tensors", 1, 4);
        assert_eq!(seen.borrow().len(), 2);
        assert!(seen.borrow()[1].contains("done: 1"));
    }
}
