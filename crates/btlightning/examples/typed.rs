//! Values of your own types in both directions, and a handler that is told who calls.
//!
//! `cargo run -p btlightning --example typed`
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "an example shows what it does, and ends where it fails"
)]

mod miner;

use btlightning::server::{Caller, Handler};
use btlightning::{LightningClient, Sr25519Signer};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Question {
    numbers: Vec<i64>,
    operation: Operation,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum Operation {
    Sum,
    Power(u32),
}

#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    result: i64,
    asked_by: String,
}

async fn compute(caller: Caller, question: Question) -> Result<Answer, String> {
    let numbers = question.numbers.iter();
    let result = match question.operation {
        Operation::Sum => numbers.sum(),
        Operation::Power(exponent) => numbers
            .map(|number| number.checked_pow(exponent))
            .sum::<Option<i64>>()
            .ok_or("a power does not fit into 64 bits")?,
    };
    Ok(Answer { result, asked_by: caller.hotkey.to_string() })
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let miner = miner::start([("Compute", Handler::typed(compute))]).await?;

    let signer = Sr25519Signer::from_seed([1; 32]);
    let mut client = LightningClient::new(signer.hotkey().to_string());
    client.set_signer(Box::new(signer));
    client.initialize_connections(vec![miner.axon()]).await?;

    for operation in [Operation::Sum, Operation::Power(3)] {
        let question = Question { numbers: vec![1, 2, 3], operation };
        let reply = client.call::<_, Answer>(miner.axon(), "Compute", &question).await?;
        println!("{operation:?}: {:?}, {:?} after the request", reply.value, reply.timings.last_byte);
    }

    // Errors are enums: act on them without reading their text.
    let overflow = Question { numbers: vec![i64::MAX], operation: Operation::Power(2) };
    let error = client.call::<_, Answer>(miner.axon(), "Compute", &overflow).await.unwrap_err();
    println!("{error}: reason {}, retryable {}", error.reason(), error.is_retryable());

    client.close_all_connections().await?;
    Ok(miner.stop().await?)
}
