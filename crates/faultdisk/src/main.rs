//! The `faultdisk` command: the library starts `serve`, and `up` is for interactive use.
#![forbid(unsafe_code)]

mod interactive;

use std::io::{self, Write};
use std::process::ExitCode;

use lexopt::prelude::{Long, Short, Value};
use pathpulse_faultdisk::{DiskSpec, Spec};

const HELP: &str = "\
faultdisk: block devices that fail on command (needs root, /dev/fuse and /dev/loop-control)

  faultdisk up [--disks N] [--size MIB] [--block BYTES] [--no-loop] [--stacked]
      Creates N disks (1 by default; 64 MiB, blocks of 512 bytes), prints their paths, and reads commands
      from stdin. Removes all disks when stdin ends. --no-loop creates bare FUSE files,
      --stacked another loop device above each disk: disk N + i is above disk i.
  faultdisk sweep
      Cleans up after rigs whose processes were all killed.
  faultdisk serve
      Started by the library.
";

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(io::stderr(), "faultdisk: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let mut args = lexopt::Parser::from_env();
    match args.next()? {
        Some(Value(command)) if command == "serve" => {
            return Ok(pathpulse_faultdisk::serve_main(args.raw_args()?));
        }
        Some(Value(command)) if command == "up" => interactive::up(&parse_spec(args)?)?,
        Some(Value(command)) if command == "sweep" => {
            for folder in pathpulse_faultdisk::sweep()? {
                writeln!(io::stdout(), "removed {}", folder.display())?;
            }
        }
        Some(Short('h') | Long("help")) => io::stdout().write_all(HELP.as_bytes())?,
        Some(other) => return Err(other.unexpected().into()),
        None => {
            io::stderr().write_all(HELP.as_bytes())?;
            return Ok(ExitCode::from(2));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn parse_spec(mut args: lexopt::Parser) -> Result<Spec, lexopt::Error> {
    use lexopt::ValueExt;
    let mut count = 1_usize;
    let mut disk = DiskSpec::default();
    let mut stacked = false;
    while let Some(arg) = args.next()? {
        match arg {
            Long("disks") => count = args.value()?.parse()?,
            Long("size") => {
                disk.size_bytes = args.value()?.parse::<u64>()? << 20;
            }
            Long("block") => disk.logical_block = args.value()?.parse()?,
            Long("no-loop") => disk.loop_device = false,
            Long("stacked") => stacked = true,
            other => return Err(other.unexpected()),
        }
    }
    let mut disks = vec![disk.clone(); count];
    if stacked {
        disks.extend((0..count).map(|base| DiskSpec {
            on: Some(base),
            ..disk.clone()
        }));
    }
    Ok(Spec { disks })
}
