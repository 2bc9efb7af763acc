//! What a process keeps of the memory that large messages took. On its own: it is about the whole process.
#![cfg(all(target_os = "linux", target_env = "gnu"))]
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use std::fs;
use std::hint::black_box;

use btlightning::LightningClient;

/// The size of one of the buffers, in bytes, and of a page of it.
const BUFFER: usize = 1024 * 1024;
const PAGE: usize = 4096;

const BUFFERS: usize = 6;
const TIMES: usize = 50;

/// How many pages the process was given so far without reading a file for them: proc_pid_stat(5), the eighth field after
/// the name of the program.
fn pages_given() -> usize {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let after_name = stat.rsplit(')').next().unwrap();
    after_name.split_whitespace().nth(7).unwrap().parse().unwrap()
}

fn fill_and_free() {
    let buffers: Vec<Vec<u8>> = (0..BUFFERS).map(|n| vec![n as u8 + 1; BUFFER]).collect();
    black_box(buffers);
}

#[test]
fn large_messages_are_given_the_memory_of_those_before_them() {
    let set = ["MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_", "GLIBC_TUNABLES"];
    if set.iter().any(|name| std::env::var_os(name).is_some()) {
        // Then it is the environment that says what is kept.
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut client = LightningClient::new("5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY".to_owned());
    runtime.block_on(client.create_endpoint()).unwrap();
    fill_and_free();
    let before = pages_given();
    for _ in 0..TIMES {
        fill_and_free();
    }
    let given = pages_given() - before;
    let touched = TIMES * BUFFERS * BUFFER / PAGE;
    assert!(given < touched / 8, "{given} pages of {touched} were given anew");
}
