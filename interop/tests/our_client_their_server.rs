//! The scenarios with a validator of ours and a published miner: a validator that changes to this project is served by
//! the miners there are.

mod peers {
    pub(crate) use btlightning_interop::Make;
    pub(crate) use btlightning_ours as client;
    pub(crate) use btlightning_published as server;

    pub(crate) const CLIENT: Make = Make::Ours;
    pub(crate) const SERVER: Make = Make::Theirs;
}

mod scenarios;
