//! What clients make of a streaming answer.

use btlightning_interop::{Class, Failure, frame};

use crate::stage::{Connected, Ours, Theirs};

const END: &[u8] = b"\x92\xc3\xc0";

type Made = Result<Vec<Vec<u8>>, Failure>;

/// What ours and theirs make of these frames.
async fn made(frames: &[(u8, &[u8])]) -> [Made; 2] {
    let bytes: Vec<u8> = frames.iter().flat_map(|(kind, payload)| frame(*kind, payload)).collect();
    let (ours, theirs) = tokio::join!(Connected::<Ours>::new(), Connected::<Theirs>::new());
    tokio::join!(ours.streamed(&bytes), theirs.streamed(&bytes)).into()
}

#[tokio::test]
async fn chunks_until_the_end() {
    for (frames, expected) in [
        (&[(6, END)][..], vec![]),
        (&[(5, b"\x91\xc4\x01a"), (5, b"\x91\xc4\x00"), (6, END)], vec![b"a".to_vec(), vec![]]),
        (&[(5, b"\x91\xc6\x00\x00\x00\x01a"), (6, END)], vec![b"a".to_vec()]),
        (&[(6, b"\x92\xc3\xa3why")], vec![]),
        (&[(6, END), (5, b"\x91\xc4\x01a")], vec![]),
    ] {
        assert_eq!(made(frames).await, [Ok(expected.clone()), Ok(expected)]);
    }
}

#[tokio::test]
async fn a_stream_that_fails() {
    for (payload, words) in [
        (&b"\x92\xc2\xb5authentication failed"[..], "authentication failed"),
        (b"\x92\xc2\xb8stream processing failed", "stream processing failed"),
        (b"\x92\xc2\xb1handler timed out", "handler timed out"),
        (b"\x92\xc2\xa3why", "why"),
    ] {
        let failure = Failure { class: Class::Stream, words: words.to_owned() };
        let frames = [(5, &b"\x91\xc4\x01a"[..]), (6, payload)];
        assert_eq!(made(&frames).await, [Err(failure.clone()), Err(failure)]);
    }
}

/// The class of the failure that both make of these frames.
async fn refused(frames: &[(u8, &[u8])]) -> Class {
    let [ours, theirs] = made(frames).await.map(|made| made.expect_err("a failure"));
    assert_eq!(ours.class, theirs.class, "ours: {ours:?}, theirs: {theirs:?}");
    theirs.class
}

#[tokio::test]
async fn what_is_no_stream() {
    assert_eq!(refused(&[(6, b"\x92\xc2\xc0")]).await, Class::Stream);
    assert_eq!(refused(&[(4, b"\x94\xc2\x80\x01\xb9unrecognized synapse type")]).await, Class::Stream);
    assert_eq!(refused(&[(4, b"\x94\xc3\x80\x01\xc0")]).await, Class::Stream);
    assert_eq!(refused(&[(2, END)]).await, Class::Stream);
    assert_eq!(refused(&[(6, b"\xc0")]).await, Class::Serialization);
    assert_eq!(refused(&[(5, b"\xc0")]).await, Class::Serialization);
    assert_eq!(refused(&[(9, END)]).await, Class::Transport);
    assert_eq!(refused(&[(5, b"\x91\xc4\x01a")]).await, Class::Transport);
    assert_eq!(refused(&[]).await, Class::Transport);
}

/// Ours reads chunks in the one form that servers write, and to their end.
#[tokio::test]
async fn ours_is_stricter_with_chunks_that_nobody_writes() {
    for chunk in [&b"\x91\xa1a"[..], b"\x91\x91\x61", b"\x91\xc4\x01a and more"] {
        let [ours, theirs] = made(&[(5, chunk), (6, END)]).await;
        assert_eq!(ours.expect_err("a failure").class, Class::Serialization);
        assert_eq!(theirs, Ok(vec![b"a".to_vec()]));
    }
}
