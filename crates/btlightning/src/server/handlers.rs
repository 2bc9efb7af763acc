//! The one table of handlers.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use tracing::warn;

use super::habits::Habits;
use super::handler::Handler;

/// Handlers by name. Of two registrations of one name the later one counts, whatever their kinds.
#[derive(Debug, Default)]
pub(super) struct Handlers {
    // The lock is held for a lookup and the clone of an Arc, never while a handler runs.
    by_name: RwLock<HashMap<Arc<str>, Entry>>,
}

/// A handler and its habits.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) handler: Handler,
    pub(super) habits: Arc<Habits>,
}

impl Handlers {
    /// Registers, and hands out what had the name before.
    pub(super) fn register(&self, name: String, handler: Handler) -> Option<Handler> {
        let kind = handler.kind();
        let entry = Entry { handler, habits: Arc::default() };
        let mut by_name = self.by_name.write().unwrap_or_else(PoisonError::into_inner);
        let replaced = by_name.insert(name.as_str().into(), entry).map(|entry| entry.handler);
        drop(by_name);
        if let Some(replaced) = &replaced
            && replaced.kind() != kind
        {
            warn!("the {kind} handler for {name:?} takes the place of a {} one", replaced.kind());
        }
        replaced
    }

    pub(super) fn unregister(&self, name: &str) -> Option<Handler> {
        self.by_name.write().unwrap_or_else(PoisonError::into_inner).remove(name).map(|entry| entry.handler)
    }

    /// The handler, and its name in a form to keep.
    pub(super) fn find(&self, name: &str) -> Option<(Arc<str>, Entry)> {
        let by_name = self.by_name.read().unwrap_or_else(PoisonError::into_inner);
        by_name.get_key_value(name).map(|(name, entry)| (name.clone(), entry.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::call::Response;

    fn unary() -> Handler {
        Handler::unary(|_| async { Response::from_map(&HashMap::new()) })
    }

    fn streaming() -> Handler {
        Handler::streaming(|_, _| async { Ok(()) })
    }

    #[test]
    fn the_last_registration_of_a_name_counts_whatever_its_kind() {
        let handlers = Handlers::default();
        assert!(handlers.find("echo").is_none());
        assert!(handlers.register("echo".to_owned(), streaming()).is_none());
        let replaced = handlers.register("echo".to_owned(), unary()).unwrap();
        assert_eq!(replaced.kind(), "streaming");
        assert_eq!(handlers.find("echo").unwrap().1.handler.kind(), "unary");
    }

    #[test]
    fn an_unregistered_name_is_unknown_again() {
        let handlers = Handlers::default();
        handlers.register("a".to_owned(), unary());
        handlers.register(String::new(), streaming());
        assert_eq!(handlers.unregister("a").unwrap().kind(), "unary");
        assert!(handlers.unregister("a").is_none());
        assert!(handlers.find("a").is_none());
        assert_eq!(handlers.find("").unwrap().1.handler.kind(), "streaming");
    }
}
