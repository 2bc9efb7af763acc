//! The heap under large messages.
//!
//! glibc gives freed memory at the end of its heap back to the system beyond a threshold, and takes it again, page by page
//! and each one cleared, for the next message: 550 page faults an echo of 1 MB, half of its time. It raises that threshold
//! itself when it frees a block that it had mapped apart from the heap: to twice the block's size (mallopt(3),
//! `M_MMAP_THRESHOLD`). Other allocators take no notice.

use std::hint::black_box;
use std::sync::Once;

/// The size of the block, in bytes: 8 MiB. So up to 16 MiB stay with the process for the next messages.
const BLOCK_BYTES: usize = 8 * 1024 * 1024;

static KEPT: Once = Once::new();

/// Has the process keep the memory of large messages for those that follow, unless its environment says how much it is to
/// keep (`MALLOC_TRIM_THRESHOLD_` and others of glibc's). What a process needs at most does not change by it.
pub(crate) fn keep_room_for_large_messages() {
    // Nothing is written to the block: it takes no memory, and the time of two system calls.
    KEPT.call_once(|| drop(black_box(Vec::<u8>::with_capacity(BLOCK_BYTES))));
}
