//! What a server holds, for tests that look whether it lets go of it again.

use std::sync::{Arc, Weak};

use super::server::LightningServer;
use super::shared::Shared;
use crate::Hotkey;

/// What a server holds at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[doc(hidden)]
pub struct Holdings {
    /// Connections that have not authenticated.
    pub strangers: usize,
    /// Sources that strangers are counted by.
    pub stranger_sources: usize,
    /// Connections that have ever been let in, as strangers.
    pub admitted: u64,
    /// Whose authenticated connections there are, in no order.
    pub members: Vec<Hotkey>,
    /// Requests in flight on them.
    pub requests: usize,
    /// Tasks, connections and others that know the server. The same number whenever nothing is going on.
    pub holders: usize,
    /// Tasks alive on the runtimes that its packets are moved on; where servers share a thread, those of all of them.
    pub io_tasks: usize,
}

/// What is left of a server that is gone: nothing, if every task that knew it has ended.
#[derive(Clone)]
#[doc(hidden)]
pub struct Remains(Weak<Shared>);

impl LightningServer {
    /// What the server holds at the moment.
    #[doc(hidden)]
    pub fn holdings(&self) -> Holdings {
        let shared = self.shared();
        let (strangers, stranger_sources, admitted) = shared.strangers.count();
        Holdings {
            strangers,
            stranger_sources,
            admitted,
            members: shared.directory.each(|member| member.hotkey),
            requests: shared.directory.each(|member| member.requests_in_flight()).into_iter().sum(),
            holders: Arc::strong_count(shared),
            io_tasks: self.lifecycle.running().map_or(0, |running| running.io.tasks()),
        }
    }

    /// To look whether the server is gone for good once it was dropped.
    #[doc(hidden)]
    pub fn remains(&self) -> Remains {
        Remains(Arc::downgrade(self.shared()))
    }
}

impl Remains {
    /// How many still know the server.
    pub fn holders(&self) -> usize {
        self.0.strong_count()
    }
}

impl std::fmt::Debug for Remains {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Remains").field(&self.holders()).finish()
    }
}
