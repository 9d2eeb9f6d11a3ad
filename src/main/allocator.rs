//! The allocator, and how long it keeps what was given back to it.
//!
//! mimalloc by itself gives pages back to the system a second after they fell free, unless they were used again. Chunks, answers and bodies of bulks come
//! and go by the megabyte on several threads: what fell free within a second was some 15 MB of a snapshot's peak. What is used again is so
//! within a tenth of a second nearly always; docs/benchmarks.md (*what holds memory*) has what either costs.

use std::ffi::c_long;

use libmimalloc_sys::{mi_option_set_default, mi_option_t};
use mimalloc::MiMalloc;

/// One allocator in every build; docs/dependencies.md says why this one.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// `mi_option_purge_delay` of mimalloc.h, in its versions 2 and 3; the binding has the functions and no names.
pub const PURGE_DELAY: mi_option_t = 15;

/// How long free pages are kept, milliseconds.
pub const KEPT: c_long = 100;

/// Has free pages given back soon. `MIMALLOC_PURGE_DELAY` in the environment goes before it.
///
/// To be called first of all: mimalloc's options are for one thread.
#[allow(unsafe_code)]
pub fn give_back_soon() {
    // SAFETY: a number is stored in a table of mimalloc's, which looks whether it has that option; no other thread is there yet.
    unsafe { mi_option_set_default(PURGE_DELAY, KEPT) }
}
