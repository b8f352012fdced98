//! The binary: arguments in, exit code out.

use std::process::ExitCode;

/// Requests are read on one thread, applied on a second, committed on a third and delivered on a fourth: memory that
/// wanders between threads is what this allocator is good at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // A huge page stays resident for one small object that lives in it, and this allocator's memory is sparse.
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    segue::cli::main()
}
