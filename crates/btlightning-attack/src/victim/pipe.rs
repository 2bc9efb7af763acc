//! A child process that is told, and answers, one JSON object a line.

use std::process::Stdio;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use crate::verdict::Failure;

/// After this a child that does not answer is dead.
const PATIENCE: Duration = Duration::from_secs(120);

/// A process of this program in another role, killed when it is dropped.
pub(super) struct Pipe {
    _process: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Pipe {
    /// Starts this program with one argument.
    pub(super) fn to(role: &str) -> Result<Self, Failure> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg(role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let orders = process.stdin.take().ok_or("no pipe to the victim")?;
        let answers = process.stdout.take().ok_or("no pipe from the victim")?;
        Ok(Self { _process: process, orders, answers: BufReader::new(answers).lines() })
    }

    /// Tells it something, and reads what it answers.
    pub(super) async fn ask<A: DeserializeOwned>(&mut self, order: &impl Serialize) -> Result<A, Failure> {
        let line = format!("{}\n", serde_json::to_string(order)?);
        self.orders.write_all(line.as_bytes()).await?;
        self.orders.flush().await?;
        let line = timeout(PATIENCE, self.answers.next_line()).await;
        let line = line.map_err(|_| "the victim says nothing")??.ok_or("the victim has died")?;
        let answer: Result<A, String> = serde_json::from_str(&line)?;
        answer.map_err(|why| format!("the victim: {why}").into())
    }
}

/// The other end: answers each line of standard input with what `carry_out` makes of it, until there are no more.
pub(super) fn serve(mut carry_out: impl FnMut(&str) -> Result<String, Failure>) -> Result<(), Failure> {
    use std::io::{BufRead, Write};
    for line in std::io::stdin().lock().lines() {
        let answer = match carry_out(&line?) {
            // What it made is JSON already.
            Ok(answer) => format!("{{\"Ok\":{answer}}}"),
            Err(failure) => serde_json::to_string(&Err::<(), _>(failure.to_string()))?,
        };
        let mut out = std::io::stdout().lock();
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    Ok(())
}
