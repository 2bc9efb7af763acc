//! A client of each make, connected to a bare miner.

use btlightning_interop::{Answer, BareMiner, Data, Failure, Keys, Link, Told, Validator, keys};

pub(crate) type Ours = btlightning_ours::LightningClient;
pub(crate) type Theirs = btlightning_published::LightningClient;

/// A client that has made its handshake, and the miner it is connected to.
pub(crate) struct Connected<V> {
    pub(crate) client: V,
    pub(crate) link: Link,
    pub(crate) miner: BareMiner,
    pub(crate) keys: Keys,
}

impl<V: Validator> Connected<V> {
    pub(crate) async fn new() -> Self {
        let keys = keys("miner");
        let miner = BareMiner::listen(&keys);
        let mut client = V::start("validator").await;
        let told = [(keys.hotkey.as_str(), miner.addr)];
        let (link, ()) = tokio::join!(miner.welcome(), client.connect(&told));
        assert!(client.proven().await.contains(&keys.hotkey));
        Self { client, link, miner, keys }
    }

    pub(crate) fn told(&self) -> Told<'_> {
        (&self.keys.hotkey, self.miner.addr)
    }

    /// Asks, and answers with these bytes. Returns the request too.
    pub(crate) async fn asked(
        &self,
        name: &str,
        data: Data,
        answer: &[u8],
    ) -> (Vec<u8>, Result<Answer, Failure>) {
        tokio::join!(self.answer(answer), self.client.ask(self.told(), name, data))
    }

    /// Asks for a stream, and answers with these bytes.
    pub(crate) async fn streamed(&self, answer: &[u8]) -> Result<Vec<Vec<u8>>, Failure> {
        tokio::join!(self.client.chunks(self.told(), "stream"), self.answer(answer)).0
    }

    async fn answer(&self, answer: &[u8]) -> Vec<u8> {
        let (request, mut stream) = self.link.asked().await;
        // A client need not read what it does not want.
        let _ = stream.write_all(answer).await;
        let _ = stream.finish();
        request
    }
}
