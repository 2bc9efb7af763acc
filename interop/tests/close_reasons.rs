//! The words with which connections are closed, by both packages in the same cases; where ours differs, it is written
//! down here. The other side is bare QUIC, which shows the code and the words as they arrive.

use std::time::Duration;

use btlightning_interop::{
    BareMiner, BareValidator, Close, Link, Make, Miner, OurMiner, TheirMiner, Validator, eventually, frame,
    keys,
};

type OurClient = btlightning_ours::LightningClient;
type TheirClient = btlightning_published::LightningClient;

/// A test for each make.
macro_rules! of_both {
    ($($test:ident: $ours:ident, $theirs:ident;)*) => {$(
        mod $test {
            #[tokio::test]
            async fn ours() {
                super::$test::<super::$ours>().await;
            }

            #[tokio::test]
            async fn theirs() {
                super::$test::<super::$theirs>().await;
            }
        }
    )*};
}

of_both! {
    a_client_that_closes: OurClient, TheirClient;
    a_client_that_is_dropped: OurClient, TheirClient;
    a_miner_that_is_no_longer_wanted: OurClient, TheirClient;
    a_miner_that_has_moved: OurClient, TheirClient;
    a_miner_that_proves_to_be_another: OurClient, TheirClient;
    a_miner_that_refuses: OurClient, TheirClient;
    a_server_that_stops: OurMiner, TheirMiner;
    a_server_that_is_dropped: OurMiner, TheirMiner;
    a_connection_that_is_stale: OurMiner, TheirMiner;
    a_connection_that_is_replaced: OurMiner, TheirMiner;
    a_stranger_that_says_nothing: OurMiner, TheirMiner;
}

/// A client that is connected to a bare miner.
async fn connected<V: Validator>() -> (V, BareMiner, Link) {
    let miner = BareMiner::listen(&keys("miner"));
    let mut client = V::start("validator").await;
    let hotkey = keys("miner").hotkey;
    let told = [(hotkey.as_str(), miner.addr)];
    let (link, ()) = tokio::join!(miner.welcome(), client.connect(&told));
    (client, miner, link)
}

async fn a_client_that_closes<V: Validator>() {
    let (client, _miner, link) = connected::<V>().await;
    client.close().await;
    assert_eq!(Close::of(&link.connection).await, Close::orderly("client_shutdown"));
}

/// A published client that is dropped has no words; ours has those of a client that closes.
async fn a_client_that_is_dropped<V: Validator>() {
    let (client, _miner, link) = connected::<V>().await;
    drop(client);
    let words = V::MAKE.pick("client_shutdown", "");
    assert_eq!(Close::of(&link.connection).await, Close::orderly(words));
}

async fn a_miner_that_is_no_longer_wanted<V: Validator>() {
    let (client, _miner, link) = connected::<V>().await;
    client.update(&[]).await;
    assert_eq!(Close::of(&link.connection).await, Close::orderly("miner_deregistered"));
}

async fn a_miner_that_has_moved<V: Validator>() {
    let (client, _miner, link) = connected::<V>().await;
    let there = BareMiner::listen(&keys("miner"));
    let hotkey = keys("miner").hotkey;
    let told = [(hotkey.as_str(), there.addr)];
    let (_link, ()) = tokio::join!(there.welcome(), client.update(&told));
    assert_eq!(Close::of(&link.connection).await, Close::orderly("miner_addr_changed"));
}

async fn a_miner_that_proves_to_be_another<V: Validator>() {
    let miner = BareMiner::listen(&keys("miner"));
    let mut client = V::start("validator").await;
    let wanted = keys("another").hotkey;
    let told = [(wanted.as_str(), miner.addr)];
    let (link, ()) = tokio::join!(miner.welcome(), client.connect(&told));
    assert_eq!(Close::of(&link.connection).await, Close::orderly("no_authenticated_hotkeys"));
}

async fn a_miner_that_refuses<V: Validator>() {
    let miner = BareMiner::listen(&keys("miner"));
    let mut client = V::start("validator").await;
    let hotkey = keys("miner").hotkey;
    let told = [(hotkey.as_str(), miner.addr)];
    let refusing = async {
        let link = miner.accept().await;
        let handshake = miner.handshake(&link).await;
        handshake.answer_with(&frame(2, b"\x96\xa0\x01\xa0\xc2\xa0\xc0")).await;
        link
    };
    let (link, ()) = tokio::join!(refusing, client.connect(&told));
    assert_eq!(Close::of(&link.connection).await, Close::orderly("no_authenticated_hotkeys"));
}

/// A client that has authenticated with `server`.
async fn authenticated(server: &impl Miner) -> BareValidator {
    let client = BareValidator::connect(server.addr()).await;
    client.authenticate(&keys("validator")).await;
    client
}

async fn a_server_that_stops<M: Miner>() {
    let server = M::start("miner").await;
    let stranger = BareValidator::connect(server.addr()).await;
    let client = authenticated(&server).await;
    server.stop().await;
    for connection in [&client.connection, &stranger.connection] {
        assert_eq!(Close::of(connection).await, Close::orderly("server_shutdown"));
    }
}

/// Dropped by the last who serves with it, that is: the task that serves has to go too.
async fn a_server_that_is_dropped<M: Miner + Dropped>() {
    let server = M::start("miner").await;
    let client = authenticated(&server).await;
    server.drop_it().await;
    assert_eq!(Close::of(&client.connection).await, Close::orderly("dropped"));
}

async fn a_connection_that_is_stale<M: Miner>() {
    let server = M::start("miner").await;
    let client = authenticated(&server).await;
    server.clean_up(300).await;
    assert_eq!(client.connection.close_reason(), None);
    let closed = async || {
        server.clean_up(0).await;
        client.connection.close_reason()
    };
    eventually("the close", closed).await;
    assert_eq!(Close::of(&client.connection).await, Close::orderly("cleanup"));
}

/// A published server keeps one connection a hotkey. Ours keeps four, so that one validator may run several programs.
async fn a_connection_that_is_replaced<M: Miner>() {
    let server = M::start("miner").await;
    let oldest = authenticated(&server).await;
    let mut newer = Vec::new();
    for _ in 0..M::MAKE.pick(4, 1) {
        assert_eq!(oldest.connection.close_reason(), None);
        newer.push(authenticated(&server).await);
    }
    assert_eq!(Close::of(&oldest.connection).await, Close::orderly("replaced"));
    assert!(newer.iter().all(|client| client.connection.close_reason().is_none()));
}

/// A published server keeps strangers for as long as they like. Ours gives them `handshake_timeout_secs`.
async fn a_stranger_that_says_nothing<M: Miner>() {
    let server = M::start("miner").await;
    let stranger = BareValidator::connect(server.addr()).await;
    match M::MAKE {
        Make::Ours => {
            assert_eq!(Close::of(&stranger.connection).await, Close::orderly("handshake_timeout"));
        }
        Make::Theirs => {
            let closed =
                tokio::time::timeout(Duration::from_millis(1200), stranger.connection.closed()).await;
            assert!(closed.is_err(), "{closed:?}");
        }
    }
}

/// A server that can be dropped without being stopped.
trait Dropped {
    async fn drop_it(self);
}

macro_rules! dropped {
    ($($miner:ty),*) => {$(
        impl Dropped for $miner {
            async fn drop_it(self) {
                let (server, serving) = self;
                serving.abort();
                let _ = serving.await;
                drop(server);
            }
        }
    )*};
}

dropped!(OurMiner, TheirMiner);
