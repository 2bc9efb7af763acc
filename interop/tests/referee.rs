//! The scenarios between two published peers. It proves nothing of ours, but that the scenarios are right: what they
//! expect is what the published package does.

mod peers {
    pub(crate) use btlightning_interop::Make;
    pub(crate) use btlightning_published as client;
    pub(crate) use btlightning_published as server;

    pub(crate) const CLIENT: Make = Make::Theirs;
    pub(crate) const SERVER: Make = Make::Theirs;
}

mod scenarios;
