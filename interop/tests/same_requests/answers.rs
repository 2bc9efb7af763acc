//! What clients make of the answer to a request.

use btlightning_interop::{Answer, Class, Data, Failure, Random, data, frame};
use btlightning_published::SynapseResponse;

use crate::stage::{Connected, Ours, Theirs};

/// A client of each make.
struct Clients {
    ours: Connected<Ours>,
    theirs: Connected<Theirs>,
}

type Made = Result<Answer, Failure>;

impl Clients {
    async fn new() -> Self {
        let (ours, theirs) = tokio::join!(Connected::new(), Connected::new());
        Self { ours, theirs }
    }

    /// What each makes of these bytes.
    async fn make(&self, bytes: &[u8]) -> [Made; 2] {
        let ours = self.ours.asked("name", data([]), bytes);
        let theirs = self.theirs.asked("name", data([]), bytes);
        let ((_, ours), (_, theirs)) = tokio::join!(ours, theirs);
        [ours, theirs]
    }

    /// What both make of an answer with this payload.
    async fn makes(&self, payload: &[u8]) -> Answer {
        let [ours, theirs] = self.make(&frame(4, payload)).await;
        let what = payload.escape_ascii();
        assert_eq!(ours, theirs, "{what}");
        theirs.expect("an answer")
    }

    /// Both call these bytes a failure of the same class.
    async fn refuse(&self, bytes: &[u8]) -> Class {
        let [ours, theirs] = self.make(bytes).await.map(|made| made.expect_err("a failure").class);
        assert_eq!(ours, theirs, "{}", bytes.escape_ascii());
        theirs
    }
}

fn answer(success: bool, data: Data, error: Option<&str>) -> Answer {
    Answer { success, data, error: error.map(str::to_owned) }
}

#[tokio::test]
async fn answers_are_what_they_say() {
    let clients = Clients::new().await;
    let one = || data([("k", 1.into())]);
    for (payload, expected) in [
        (&b"\x94\xc3\x80\x01\xc0"[..], answer(true, data([]), None)),
        (b"\x94\xc3\x81\xa1k\x01\x01\xc0", answer(true, one(), None)),
        (b"\x94\xc3\x81\xc4\x01k\x01\x01\xc0", answer(true, one(), None)),
        (b"\x94\xc3\x82\xa1k\x02\xa1k\x01\x01\xc0", answer(true, one(), None)),
        (b"\x94\xc3\x80\x01\xa3why", answer(true, data([]), Some("why"))),
        (b"\x94\xc2\x80\x01\xa3why", answer(false, data([]), Some("why"))),
        (b"\x94\xc2\x81\xa1k\x01\x01\xa3why", answer(false, one(), Some("why"))),
        (b"\x94\xc2\x80\x01\xc0", answer(false, data([]), None)),
        (b"\x94\xc2\x80\xcf\xff\xff\xff\xff\xff\xff\xff\xff\xa0", answer(false, data([]), Some(""))),
    ] {
        assert_eq!(clients.makes(payload).await, expected);
    }
    let more = [&frame(4, b"\x94\xc3\x80\x01\xc0")[..], b"and more"].concat();
    let made = clients.make(&more).await;
    assert_eq!(made, [Ok(answer(true, data([]), None)), Ok(answer(true, data([]), None))]);
}

#[tokio::test]
async fn random_answers_are_read_alike() {
    let clients = Clients::new().await;
    let mut random = Random::new(5);
    for _ in 0..50 {
        let error = (random.below(2) == 1).then(|| random.text(40));
        let response = SynapseResponse {
            success: random.below(2) == 1,
            data: random.data(4),
            timestamp: random.integer(),
            error,
        };
        let payload = rmp_serde::to_vec(&response).expect("encodes");
        let [ours, theirs] = clients.make(&frame(4, &payload)).await;
        let [ours, theirs] = [ours, theirs].map(|made| format!("{:?}", sorted(made.expect("an answer"))));
        assert!(ours == theirs, "{response:?}");
    }
}

/// As text, since numbers that are not numbers do not equal themselves.
fn sorted(answer: Answer) -> (bool, std::collections::BTreeMap<String, String>, Option<String>) {
    let data = answer.data.into_iter().map(|(key, value)| (key, format!("{value:?}")));
    (answer.success, data.collect(), answer.error)
}

#[tokio::test]
async fn what_is_no_answer() {
    let clients = Clients::new().await;
    for payload in [
        &b"\x93\xc3\x80\x01"[..],
        b"\x95\xc3\x80\x01\xc0\xc0",
        b"\x94\xc3\x81\x01\x01\x01\xc0",
        b"\x94\xc3\xc0\x01\xc0",
        b"\x94\xc2\x80\x01\xa1\xff",
        b"\x94\x01\x80\x01\xc0",
        b"\xc0",
        b"",
    ] {
        assert_eq!(clients.refuse(&frame(4, payload)).await, Class::Serialization);
    }
    for bytes in [
        frame(2, b"\x94\xc3\x80\x01\xc0"),
        frame(3, b"\x94\xc3\x80\x01\xc0"),
        frame(9, b"\x94\xc3\x80\x01\xc0"),
        frame(5, b"\x91\xc4\x01a"),
        frame(6, b"\x92\xc3\xc0"),
        frame(6, b"\x92\xc2\xb5authentication failed"),
        b"".to_vec(),
        b"\x04\x00".to_vec(),
        b"\x04\x00\x00\x00\x05\x94\xc3".to_vec(),
        b"\x04\xff\xff\xff\xff".to_vec(),
    ] {
        assert_eq!(clients.refuse(&bytes).await, Class::Transport);
    }
    // The connection is as good as before.
    clients.makes(b"\x94\xc3\x80\x01\xc0").await;
}

/// Ours reads an answer in the one form that servers write, and to its end.
#[tokio::test]
async fn ours_is_stricter_with_answers_that_nobody_writes() {
    let clients = Clients::new().await;
    let named = SynapseResponse { success: true, data: data([]), timestamp: 1, error: None };
    let named = rmp_serde::to_vec_named(&named).expect("encodes");
    for payload in [&b"\x94\xc3\x80\x01\xc0\xff"[..], b"\x94\xc2\x80\x01\xc4\x03why", &named] {
        let [ours, theirs] = clients.make(&frame(4, payload)).await;
        assert_eq!(ours.expect_err("a failure").class, Class::Serialization);
        theirs.expect("an answer");
    }
}
