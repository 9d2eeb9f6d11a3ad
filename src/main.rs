//! The `everrelay` command.

#[path = "main/allocator.rs"]
mod allocator;

use std::process::ExitCode;

fn main() -> ExitCode {
    allocator::give_back_soon();
    everrelay::cli::main()
}

#[cfg(test)]
mod tests {
    use libmimalloc_sys::mi_option_get;

    use super::allocator::{KEPT, PURGE_DELAY, give_back_soon};

    #[test]
    fn free_memory_is_given_back_after_a_tenth_of_a_second() {
        // SAFETY: a number is read from a table of mimalloc's.
        let delay = || unsafe { mi_option_get(PURGE_DELAY) };
        // What mimalloc has by itself: another option under this number would have something else.
        assert_eq!(delay(), 1000);
        give_back_soon();
        assert_eq!((delay(), KEPT), (100, 100));
    }
}
