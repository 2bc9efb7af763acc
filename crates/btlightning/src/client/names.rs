//! Ways to name a miner.

use btlightning_proto::identity::{Hotkey, HotkeyError};
use btlightning_proto::peers::{PeerAddr, QuicAxonInfo};

/// Something that names a miner: a [`Hotkey`], the text of one, or an axon.
///
/// A hotkey alone is looked up in the registry. An axon says where the miner is, too: if the registry does not have it
/// there, the call dials it and it is kept until the next `update_miner_registry`.
pub trait NamesMiner {
    /// The miner's hotkey.
    ///
    /// # Errors
    /// [`HotkeyError`] when the text is not a hotkey in its canonical spelling.
    fn hotkey(&self) -> Result<Hotkey, HotkeyError>;

    /// The hotkey as the caller spells it, to tell answers apart.
    fn name(&self) -> String;

    /// Where the miner is, if that is known here.
    fn addr(&self) -> Option<PeerAddr> {
        None
    }
}

impl NamesMiner for Hotkey {
    fn hotkey(&self) -> Result<Hotkey, HotkeyError> {
        Ok(*self)
    }

    fn name(&self) -> String {
        self.to_string()
    }
}

impl NamesMiner for str {
    fn hotkey(&self) -> Result<Hotkey, HotkeyError> {
        self.parse()
    }

    fn name(&self) -> String {
        self.to_owned()
    }
}

impl NamesMiner for String {
    fn hotkey(&self) -> Result<Hotkey, HotkeyError> {
        self.parse()
    }

    fn name(&self) -> String {
        self.clone()
    }
}

impl NamesMiner for QuicAxonInfo {
    fn hotkey(&self) -> Result<Hotkey, HotkeyError> {
        self.hotkey.parse()
    }

    fn name(&self) -> String {
        self.hotkey.clone()
    }

    fn addr(&self) -> Option<PeerAddr> {
        Some(self.addr_key())
    }
}

impl<T: NamesMiner + ?Sized> NamesMiner for &T {
    fn hotkey(&self) -> Result<Hotkey, HotkeyError> {
        (**self).hotkey()
    }

    fn name(&self) -> String {
        (**self).name()
    }

    fn addr(&self) -> Option<PeerAddr> {
        (**self).addr()
    }
}
