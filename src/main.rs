//! The `everrelay` command.

use std::process::ExitCode;

/// One allocator in every build; docs/dependencies.md says why this one.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    everrelay::cli::main()
}
