//! The `rollcall` command.

/// What frees memory is mostly another thread than the one that took it, and the views of a rebuild
/// or a comparison go back to the system.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    rollcall::cli::run()
}
