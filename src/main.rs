//! The program; everything is in the library, see `cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    headend::cli::main(std::env::args_os())
}
