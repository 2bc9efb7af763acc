//! The scenarios with a published validator and a miner of ours: a miner that changes to this project serves the
//! validators there are.

mod peers {
    pub(crate) use btlightning_interop::Make;
    pub(crate) use btlightning_ours as server;
    pub(crate) use btlightning_published as client;

    pub(crate) const CLIENT: Make = Make::Theirs;
    pub(crate) const SERVER: Make = Make::Ours;
}

mod scenarios;
