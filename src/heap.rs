//! The allocator, with a limit that the server sets: what tiny_http buffers for a hostile client has none.

use std::alloc::System;

use cap::Cap;

#[global_allocator]
static HEAP: Cap<System> = Cap::new(System, usize::MAX);

/// From now on an allocation that would exceed this many bytes in all ends the process.
pub fn limit(bytes: usize) {
    // It fails only if more is in use already, and then the next allocation ends the process.
    _ = HEAP.set_limit(bytes);
}

/// The bytes in use.
pub fn in_use() -> usize {
    HEAP.allocated()
}
