//! Ways to name a miner.

use btlightning_proto::identity::{Hotkey, HotkeyError};
use btlightning_proto::peers::{PeerAddr, QuicAxonInfo};

use super::known::Spelled;

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

    /// The texts that say all of it, if there are any: what was read once need not be read again.
    #[doc(hidden)]
    fn spelled(&self) -> Option<Spelled<'_>> {
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

    fn spelled(&self) -> Option<Spelled<'_>> {
        Some(Spelled { hotkey: self, addr: None })
    }
}

impl NamesMiner for String {
    fn hotkey(&self) -> Result<Hotkey, HotkeyError> {
        self.parse()
    }

    fn name(&self) -> String {
        self.clone()
    }

    fn spelled(&self) -> Option<Spelled<'_>> {
        Some(Spelled { hotkey: self, addr: None })
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

    fn spelled(&self) -> Option<Spelled<'_>> {
        Some(Spelled { hotkey: &self.hotkey, addr: Some((&self.ip, self.port)) })
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

    fn spelled(&self) -> Option<Spelled<'_>> {
        (**self).spelled()
    }
}
