//! One WebSocket connection, from the handshake to its end.

use super::{
    super::{failure::Failure, node::NodeState, shared::Shared, world::Notice},
    session::{Reaction, Session},
};
use futures_util::{SinkExt, StreamExt, stream::FuturesUnordered};
use std::{sync::Arc, time::Duration};
use tokio::{
    net::TcpStream,
    sync::broadcast::{self, error::RecvError},
    time::{sleep, timeout},
};
use tokio_tungstenite::{
    WebSocketStream, accept_async_with_config,
    tungstenite::{Message, protocol::WebSocketConfig},
};

/// The time a client has for the handshake, and for taking a message.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest message that is read.
const MESSAGE_BYTES_MAX: usize = 15 * 1024 * 1024;

/// Answers that are held back at once.
const DELAYED_MAX: usize = 1_024;

/// Serves a client until it goes, misbehaves, or the node drops it. A connection that ends says nothing to anybody.
pub(in super::super) async fn serve(stream: TcpStream, shared: Arc<Shared>, node: Arc<NodeState>) {
    let mut drops = node.drops.subscribe();
    // Before the handshake, so that a client misses nothing that happens after it.
    let notices = shared.notices.subscribe();
    tokio::select! {
        _ = drops.changed() => {}
        _ = converse(stream, shared, node.clone(), notices) => {}
    }
}

/// `None`, like `Some`, is the end of the connection.
async fn converse(
    stream: TcpStream,
    shared: Arc<Shared>,
    node: Arc<NodeState>,
    mut notices: broadcast::Receiver<Notice>,
) -> Option<()> {
    match node.failure() {
        Some(Failure::Mute) => std::future::pending().await,
        Some(Failure::HangUp | Failure::Refuse) => return None,
        _ => {}
    }
    stream.set_nodelay(true).ok()?;
    let config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    let handshake = timeout(PATIENCE, accept_async_with_config(stream, Some(config)));
    let mut socket = handshake.await.ok()?.ok()?;
    let mut session = Session::new(shared, node.clone());
    let mut delayed = FuturesUnordered::new();
    loop {
        let reaction = tokio::select! {
            // What has happened is told before what is asked next is answered.
            biased;
            notice = notices.recv() => match notice {
                Ok(notice) => {
                    let messages = session.notify(&notice);
                    let silent = node.failure().is_some_and(|failure| failure.is_silence());
                    Reaction::Send(if silent { Vec::new() } else { messages })
                }
                // A client that is so far behind is not worth keeping.
                Err(RecvError::Lagged(_) | RecvError::Closed) => return None,
            },
            Some(messages) = delayed.next() => Reaction::Send(messages),
            message = socket.next() => match message?.ok()? {
                Message::Text(text) => session.receive(&text),
                Message::Binary(bytes) => session.receive(std::str::from_utf8(&bytes).ok()?),
                Message::Close(_) => return None,
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => Reaction::Send(Vec::new()),
            },
        };
        match reaction {
            Reaction::Send(messages) => send(&mut socket, messages, Message::text).await?,
            Reaction::SendBinary(messages) => {
                send(&mut socket, messages, |text| Message::Binary(text.into_bytes().into())).await?;
            }
            Reaction::Delay(delay, messages) if delayed.len() < DELAYED_MAX => {
                delayed.push(async move {
                    sleep(delay).await;
                    messages
                });
            }
            Reaction::Delay(..) | Reaction::Disconnect => return None,
        }
    }
}

async fn send(
    socket: &mut WebSocketStream<TcpStream>,
    messages: Vec<String>,
    form: impl Fn(String) -> Message,
) -> Option<()> {
    for message in messages {
        timeout(PATIENCE, socket.send(form(message))).await.ok()?.ok()?;
    }
    Some(())
}
