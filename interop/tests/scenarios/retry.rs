//! Address validation: a client shows that it receives what is sent to its address, by one more round trip.

use btlightning_interop::{Relay, data, within};

use super::stage::{Miner, VALIDATOR, axon, client_config, server_config, validator};
use crate::peers::client;

#[tokio::test]
async fn a_validator_comes_in_with_and_without_a_retry() {
    for required in [true, false] {
        let miner = Miner::with(server_config().require_address_validation(required)).await;
        let relay = Relay::to(miner.addr).await.expect("sockets");
        let validator = validator(VALIDATOR, client_config()).await;
        let request = client::QuicRequest::new("echo".into(), data([]));
        let query = validator.query_axon(axon(&miner.keys.hotkey, relay.addr), request);
        assert!(within("an answer", query).await.expect("an answer").success);
        assert_eq!(relay.retries(), usize::from(required));
    }
}
