//! The memory allocator of the Rust side.

use std::ffi::{c_int, c_long};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` in mimalloc's header; the binding does not name it.
const PURGE_DELAY: c_int = 15;
/// For how long freed memory is kept for reuse, in ms. A second, mimalloc's own choice, lets a
/// burst of tasks count twice: as what it left and as what it passed through.
const KEEP_FREED_MS: c_long = 10;

/// Gives back what the allocator keeps for the calling thread, and what is free in all.
fn trim_thread() {
    // SAFETY: may be called by any thread at any time.
    unsafe { libmimalloc_sys::mi_collect(true) }
}

/// Sets the allocator's options, unless the environment does (`MIMALLOC_PURGE_DELAY`).
pub fn tune() {
    taskloom_runtime::worker::set_trim_thread(trim_thread);
    if std::env::var_os("MIMALLOC_PURGE_DELAY").is_some() {
        return;
    }
    // SAFETY: a store of a number under a known index; may be called at any time.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, KEEP_FREED_MS) }
}
