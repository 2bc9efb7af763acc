//! What work takes of the heap, measured.

use peak_alloc::PeakAlloc;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// What one allocation more or less, and the bookkeeping of buffers that are shared, may come to in bytes.
pub(crate) const SLACK_BYTES: usize = 512;

/// Does `work`, and says how many bytes it had on the heap at its peak, beside what was there before. Of the whole
/// process: nothing else may run meanwhile.
pub(crate) fn peak_of<T>(work: impl FnOnce() -> T) -> (T, usize) {
    HEAP.reset_peak_usage();
    let before = HEAP.current_usage();
    let done = work();
    (done, HEAP.peak_usage().saturating_sub(before))
}
