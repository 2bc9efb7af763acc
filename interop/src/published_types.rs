// Part of `published_api.rs`: single types, what can be done with them, and every field and method of the configurations.

/// The variant of an error and its text; there is no other variant.
fn told(error: &LightningError) -> (&'static str, &String) {
    match error {
        LightningError::Connection(text) => ("connection", text),
        LightningError::Handshake(text) => ("handshake", text),
        LightningError::Signing(text) => ("signing", text),
        LightningError::Serialization(text) => ("serialization", text),
        LightningError::Transport(text) => ("transport", text),
        LightningError::Handler(text) => ("handler", text),
        LightningError::Config(text) => ("config", text),
        LightningError::Stream(text) => ("stream", text),
    }
}

/// Every field and every method of the client's configuration.
fn client_config() -> Result<LightningClientConfig> {
    let LightningClientConfig {
        connect_timeout,
        idle_timeout,
        keep_alive_interval,
        reconnect_initial_backoff,
        reconnect_max_backoff,
        reconnect_max_retries,
        reconnect_slow_probe_interval,
        max_connections,
        max_frame_payload_bytes,
        max_stream_payload_bytes,
        stream_chunk_timeout,
        ..
    } = LightningClientConfig::default();
    assert_eq!((max_connections, max_frame_payload_bytes), (1024, DEFAULT_MAX_FRAME_PAYLOAD));
    assert_eq!((connect_timeout.as_secs(), stream_chunk_timeout), (10, None));
    let builder: LightningClientConfigBuilder = LightningClientConfig::builder()
        .connect_timeout(connect_timeout)
        .idle_timeout(idle_timeout)
        .keep_alive_interval(keep_alive_interval)
        .reconnect_initial_backoff(reconnect_initial_backoff)
        .reconnect_max_backoff(reconnect_max_backoff)
        .reconnect_max_retries(reconnect_max_retries)
        .reconnect_slow_probe_interval(reconnect_slow_probe_interval)
        .max_connections(max_connections)
        .max_frame_payload_bytes(max_frame_payload_bytes)
        .max_stream_payload_bytes(max_stream_payload_bytes)
        .stream_chunk_timeout(Duration::from_secs(5));
    let config = LightningClientConfig { connect_timeout: Duration::from_secs(3), ..builder.build()? };
    assert_eq!(config.clone().stream_chunk_timeout, Some(Duration::from_secs(5)));
    Ok(config)
}

/// Every field and every method of the server's configuration.
fn server_config() -> Result<LightningServerConfig> {
    let default = LightningServerConfig::default();
    let builder: LightningServerConfigBuilder = LightningServerConfig::builder()
        .max_signature_age_secs(default.max_signature_age_secs)
        .idle_timeout_secs(default.idle_timeout_secs)
        .keep_alive_interval_secs(default.keep_alive_interval_secs)
        .nonce_cleanup_interval_secs(default.nonce_cleanup_interval_secs)
        .max_connections(default.max_connections)
        .max_nonce_entries(default.max_nonce_entries)
        .handshake_timeout_secs(default.handshake_timeout_secs)
        .max_handshake_attempts_per_minute(default.max_handshake_attempts_per_minute)
        .max_concurrent_bidi_streams(default.max_concurrent_bidi_streams)
        .require_validator_permit(!default.require_validator_permit)
        .validator_permit_refresh_secs(default.validator_permit_refresh_secs)
        .max_tracked_rate_ips(default.max_tracked_rate_ips)
        .handler_timeout_secs(default.handler_timeout_secs)
        .max_frame_payload_bytes(default.max_frame_payload_bytes)
        .streaming_channel_buffer(default.streaming_channel_buffer)
        .enforce_source_allowlist(!default.enforce_source_allowlist)
        .source_allowlist_refresh_secs(default.source_allowlist_refresh_secs)
        .require_address_validation(default.require_address_validation);
    let mut config = builder.build()?;
    let copy = config;
    config.handler_timeout_secs = copy.handler_timeout_secs - 1;
    assert!(format!("{config:?}").contains("handler_timeout_secs: 29"), "{config:?}");
    Ok(config)
}

/// What each type can do beside its own methods.
fn traits() {
    fn value<T: Clone + Debug + Serialize + DeserializeOwned>() {}
    fn shared<T: Send + Sync + 'static + ?Sized>() {}
    value::<QuicAxonInfo>();
    value::<QuicRequest>();
    value::<QuicResponse>();
    value::<SynapsePacket>();
    value::<SynapseResponse>();
    value::<HandshakeRequest>();
    value::<HandshakeResponse>();
    value::<btlightning::types::StreamChunk>();
    value::<btlightning::types::StreamEnd>();
    value::<PeerAddr>();
    fn address<T: Display + Eq + Hash + AsRef<str>>() {}
    address::<PeerAddr>();
    fn kind<T: Copy + Debug + PartialEq + TryFrom<u8, Error = LightningError>>() {}
    kind::<MessageType>();
    fn config<T: Clone + Default>() {}
    config::<LightningClientConfig>();
    config::<LightningServerConfig>();
    fn policy<T: Clone + Debug>() {}
    policy::<SourceAllowlist>();
    fn error<T: std::error::Error + Send + Sync + 'static>() {}
    error::<LightningError>();
    shared::<LightningClient>();
    shared::<LightningServer>();
    shared::<dyn SynapseHandler>();
    shared::<dyn AsyncSynapseHandler>();
    shared::<dyn StreamingSynapseHandler>();
    shared::<dyn ValidatorPermitResolver>();
    shared::<dyn SourceAddressResolver>();
    shared::<dyn HandshakeObserver>();
    shared::<dyn Signer>();
    fn sendable<T: Send>() {}
    sendable::<StreamingResponse>();
}

/// The values of the wire, as a program makes and reads them.
fn values() -> Result<()> {
    let axon = QuicAxonInfo { hotkey: "h".into(), ip: "::1".into(), port: 5, protocol: 4 };
    let addr: PeerAddr = axon.addr_key();
    assert_eq!((addr.to_string().as_str(), addr.as_ref()), ("[::1]:5", "[::1]:5"));
    assert_eq!(PeerAddr::new("1.2.3.4", 5).to_string(), "1.2.3.4:5");

    let request = QuicRequest { synapse_type: "s".into(), data: HashMap::new() };
    assert_eq!(request.data, QuicRequest::new("s".into(), HashMap::new()).data);
    assert_eq!(QuicRequest::from_typed("s", &Total { total: 1 })?.data["total"], 1.into());
    let response = QuicResponse { success: true, data: request.data, latency_ms: 0.5, error: None };
    assert!(response.deserialize_data::<Total>().is_err());
    let response = QuicResponse { success: false, error: Some("no".into()), ..response.into_result()? };
    let error = response.into_result().expect_err("not a success");
    assert_eq!(told(&error), ("handler", &"no".to_owned()));
    assert_eq!(error.to_string(), "handler error: no");
    assert_eq!(LightningError::Config("c".into()).to_string(), "config error: c");

    let kinds = [
        MessageType::HandshakeRequest,
        MessageType::HandshakeResponse,
        MessageType::SynapsePacket,
        MessageType::SynapseResponse,
        MessageType::StreamChunk,
        MessageType::StreamEnd,
    ];
    for (byte, kind) in (1..).zip(kinds) {
        assert_eq!((MessageType::try_from(byte)?, kind as u8), (kind, byte));
    }
    assert_eq!(parse_frame_header(&[6, 0, 0, 0, 1, 9], 64)?, (MessageType::StreamEnd, &[9][..]));
    let _ = SynapsePacket { synapse_type: "s".into(), data: HashMap::new(), timestamp: 1 };
    let _ = SynapseResponse { success: true, data: HashMap::new(), timestamp: 1, error: None };
    assert!(paths::unix_timestamp_millis() / 1000 >= u128::from(paths::unix_timestamp_secs()) - 1);
    Ok(())
}
