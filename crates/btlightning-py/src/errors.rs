//! Every error as the exception that Python programs catch. The classes are written in Python (`btlightning._errors`).

use btlightning::metagraph::{ChainError, PublishError};
use btlightning::raw::EncodeError;
use btlightning::{CallError, LightningError, Phase};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

/// The classes, by where an error comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    Connection,
    Handshake,
    Transport,
    Timeout,
    Config,
    Serialization,
    /// A value that cannot be put on the wire: a `SerializationError` and a `TypeError`.
    UnsupportedType,
    Signing,
    Handler,
    Stream,
    StreamTimeout,
    Fork,
    Closed,
}

impl Class {
    fn name(self) -> &'static str {
        match self {
            Self::Connection => "LightningConnectionError",
            Self::Handshake => "HandshakeError",
            Self::Transport => "TransportError",
            Self::Timeout => "LightningTimeoutError",
            Self::Config => "ConfigError",
            Self::Serialization => "SerializationError",
            Self::UnsupportedType => "UnsupportedTypeError",
            Self::Signing => "SigningError",
            Self::Handler => "HandlerError",
            Self::Stream => "StreamError",
            Self::StreamTimeout => "StreamTimeoutError",
            Self::Fork => "ForkError",
            Self::Closed => "ClosedError",
        }
    }
}

/// The exception of a class. `reason` is one stable word.
pub(crate) fn raise(class: Class, message: impl Into<String>, reason: &str, retryable: bool) -> PyErr {
    let message = message.into();
    // While the interpreter exits there may be nothing to make an exception of; then nobody sees it either.
    Python::try_attach(|py| {
        let make = || -> PyResult<PyErr> {
            let error = python_class(py, class)?.call1((&message, reason, retryable))?;
            Ok(PyErr::from_value(error))
        };
        make().unwrap_or_else(|error| error)
    })
    .unwrap_or_else(|| PyRuntimeError::new_err("the interpreter exits"))
}

fn python_class(py: Python<'_>, class: Class) -> PyResult<Bound<'_, PyType>> {
    static MODULE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    let module = MODULE.get_or_try_init(py, || py.import("btlightning._errors").map(Bound::unbind))?;
    Ok(module.bind(py).getattr(class.name())?.cast_into::<PyType>()?)
}

pub(crate) fn config(message: impl Into<String>) -> PyErr {
    raise(Class::Config, message, "config", false)
}

pub(crate) fn unsupported_type(message: impl Into<String>) -> PyErr {
    raise(Class::UnsupportedType, message, "unsupported_type", false)
}

pub(crate) fn serialization(message: impl Into<String>) -> PyErr {
    raise(Class::Serialization, message, "encode", false)
}

pub(crate) fn forked() -> PyErr {
    let message = "this object belongs to the process that this one was forked from, and its threads are not here: \
                   make a new one in this process, or start it by multiprocessing's \"spawn\" or \"forkserver\" method";
    raise(Class::Fork, message, "forked", false)
}

pub(crate) fn exiting() -> PyErr {
    raise(Class::Closed, "the interpreter exits", "exiting", false)
}

/// An error of a call, as precise as it is.
pub(crate) fn call(error: CallError) -> PyErr {
    let message = error.to_string();
    call_in_words(error, |_| message)
}

/// An error of a published call: as precise, with a message that begins as it used to.
pub(crate) fn published_call(error: CallError) -> PyErr {
    call_in_words(error, LightningError::to_string)
}

fn call_in_words(error: CallError, message: impl FnOnce(&LightningError) -> String) -> PyErr {
    let (reason, retryable) = (error.reason(), error.is_retryable());
    let timed_out = match &error {
        CallError::TimedOut { phase: Phase::Chunk | Phase::Stream, .. } => Some(Class::StreamTimeout),
        CallError::TimedOut { .. } => Some(Class::Timeout),
        _ => None,
    };
    let published = LightningError::from(error);
    let class = timed_out.unwrap_or_else(|| class_of(&published));
    raise(class, message(&published), reason, retryable)
}

/// An error of a streaming answer: what the miner says of it is a `StreamError`.
pub(crate) fn stream(error: CallError) -> PyErr {
    match &error {
        CallError::Rejected(_) | CallError::UnexpectedMessage(_) => {
            raise(Class::Stream, error.to_string(), error.reason(), error.is_retryable())
        }
        _ => call(error),
    }
}

/// An error of the published API: a class and a sentence.
pub(crate) fn published(error: &LightningError) -> PyErr {
    let reason = match error {
        LightningError::Connection(_) => "connection",
        LightningError::Handshake(_) => "handshake",
        LightningError::Signing(_) => "signing_failed",
        LightningError::Serialization(_) => "serialization",
        LightningError::Transport(_) => "transport",
        LightningError::Handler(_) => "handler",
        LightningError::Config(_) => "config",
        LightningError::Stream(_) => "stream",
    };
    let retryable = matches!(error, LightningError::Connection(_) | LightningError::Transport(_));
    raise(class_of(error), error.to_string(), reason, retryable)
}

/// An error of the chain's nodes, or an answer of the chain's.
pub(crate) fn chain(error: &ChainError) -> PyErr {
    let reason = match error {
        ChainError::Network(_) | ChainError::Setting { .. } => "config",
        ChainError::Node(_) | ChainError::NoNode(_) => "no_node",
        ChainError::NoSuchSubnet { .. } => "no_such_subnet",
        ChainError::OutOfTime { .. } => "timeout",
        ChainError::ShuttingDown => "exiting",
        _ => "unreadable_chain",
    };
    let retryable = error.is_fault_of_node() || matches!(error, ChainError::OutOfTime { .. });
    let published = LightningError::from(error.clone());
    raise(class_of(&published), error.to_string(), reason, retryable)
}

/// Why something was not published on the chain.
pub(crate) fn publish(error: &PublishError) -> PyErr {
    let (reason, retryable) = match error {
        PublishError::Chain(error) => return chain(error),
        PublishError::Axon(_) => ("invalid_axon", false),
        PublishError::NotRegistered { .. } => ("not_registered", false),
        PublishError::RateLimited { .. } => ("rate_limited", true),
        PublishError::Signer { .. } | PublishError::SignerTimedOut { .. } => ("signing_failed", false),
        PublishError::Rejected { .. } => ("rejected", false),
        PublishError::Failed { .. } => ("refused_by_chain", false),
        PublishError::Overtaken => ("overtaken", true),
        PublishError::NotIncluded { .. } => ("not_included", true),
        _ => ("not_published", false),
    };
    let published = LightningError::from(error.clone());
    raise(class_of(&published), error.to_string(), reason, retryable)
}

pub(crate) fn encode(error: &EncodeError) -> PyErr {
    serialization(error.to_string())
}

fn class_of(error: &LightningError) -> Class {
    match error {
        LightningError::Connection(_) => Class::Connection,
        LightningError::Handshake(_) => Class::Handshake,
        LightningError::Signing(_) => Class::Signing,
        LightningError::Serialization(_) => Class::Serialization,
        LightningError::Transport(_) => Class::Transport,
        LightningError::Handler(_) => Class::Handler,
        LightningError::Config(_) => Class::Config,
        LightningError::Stream(_) => Class::Stream,
    }
}
