//! The program `pathpulse`: see the library.

#![forbid(unsafe_code)]

fn main() {
    let status = pathpulse_cli::main();
    // Returning from `main` would run exit handlers; nothing here needs any, and a thread that
    // waits for a device must not be able to keep them waiting.
    pathpulse_kernel_compat::exit_now(status);
}
