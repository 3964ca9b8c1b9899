//! A program for the machines of `tests/lab`: an NBD server that fails on command, and a load
//! generator.
#![forbid(unsafe_code)]

mod load;
mod nbd;

use std::io::{self, Write};
use std::process::ExitCode;

const HELP: &str = "\
lab-helper nbd ADDRESS MIB
    Serves zeroes to one client, and executes the commands on its stdin:
      answer        answer each request at once, including held ones (default)
      hold          read requests, but answer none
      mute          read no more requests: the client's socket fills
      fail DELAY    fail each request DELAY milliseconds after its arrival
lab-helper load read|write DEVICE THREADS BYTES
    Each thread reads or writes BYTES with O_DIRECT, forever.
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args[..] {
        ["nbd", address, mib] => number(mib).and_then(|mib| nbd::serve(address, mib << 20)),
        ["load", kind @ ("read" | "write"), device, threads, bytes] => {
            let counts = number(threads).and_then(|threads| Ok((threads, number(bytes)?)));
            counts.and_then(|(threads, bytes)| load::run(kind == "write", device, threads, bytes))
        }
        _ => Err(io::Error::other(HELP)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "lab-helper: {error}");
            ExitCode::FAILURE
        }
    }
}

fn number(text: &str) -> io::Result<u64> {
    let invalid = |_| io::Error::other(format!("invalid value `{text}`: expected a number"));
    text.parse().map_err(invalid)
}
