//! `sync`: one blocking read after the other.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Instant;

use crate::contender::{Contender, Job, PathCounts};
use crate::files::{block_size, open_direct};

struct SyncChecker {
    file: File,
    block: usize,
    good: bool,
    took_us: u64,
}

struct Sync {
    checkers: Vec<SyncChecker>,
    timed: bool,
    calls: u64,
    space: Vec<u8>,
}

/// The largest supported logical block.
const BLOCK_MAX: usize = 64 * 1024;

pub(crate) fn open(job: &Job) -> Result<Box<dyn Contender>, String> {
    let open = |path| {
        let file = open_direct(path)?;
        Ok(SyncChecker {
            block: block_size(&file).min(BLOCK_MAX),
            file,
            good: false,
            took_us: 0,
        })
    };
    let checkers = job.paths.iter().map(|path| open(path));
    Ok(Box::new(Sync {
        checkers: checkers.collect::<Result<_, String>>()?,
        timed: job.timed,
        calls: 0,
        space: vec![0; 2 * BLOCK_MAX],
    }))
}

impl Contender for Sync {
    fn sweep(&mut self) {
        let start = self.space.as_ptr().align_offset(BLOCK_MAX);
        for checker in &mut self.checkers {
            let begin = self.timed.then(Instant::now);
            let block = &mut self.space[start..start + checker.block];
            let read = checker.file.read_at(block, 0);
            checker.good = matches!(read, Ok(bytes) if bytes == checker.block);
            checker.took_us = begin.map_or(0, |begin| begin.elapsed().as_micros() as u64);
        }
        self.calls += self.checkers.len() as u64;
    }

    fn path_counts(&self) -> PathCounts {
        PathCounts::of(self.checkers.iter().map(|checker| checker.good))
    }

    fn latencies_us(&self) -> Vec<Option<u64>> {
        let took = |checker: &SyncChecker| (self.timed && checker.good).then_some(checker.took_us);
        self.checkers.iter().map(took).collect()
    }

    fn syscalls(&self) -> Option<u64> {
        Some(self.calls)
    }
}
