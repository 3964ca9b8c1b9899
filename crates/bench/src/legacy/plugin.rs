//! `libcheckdirectio`: the real directio checker of the installed multipath-tools, loaded as a
//! plugin and called as multipathd calls it: one check of one path at a time. Checks that return
//! "pending" are repeated a second later. An earlier call would be unfair, because the plugin
//! counts its calls as seconds.
//!
//! The plugin loads libmultipath itself. The interface is that of the versions 0.7.9 to 0.10. Later
//! versions are refused, because none was tested.

use std::ffi::{c_int, c_void};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use libloading::os::unix::{Library, RTLD_LAZY, RTLD_LOCAL};

use crate::contender::{Contender, Job, PathCounts};

/// Where distributions install it.
const PLUGINS: [&str; 3] = [
    "/lib/multipath/libcheckdirectio.so",
    "/usr/lib64/multipath/libcheckdirectio.so",
    "/usr/lib/multipath/libcheckdirectio.so",
];

/// The interval of multipathd's checks.
const TICK: Duration = Duration::from_secs(1);

const STATE_UP: c_int = 3;
const STATE_PENDING: c_int = 6;

/// `struct checker` as plugins know it, with spare space: the plugin's own data follows.
#[derive(Default)]
#[repr(C, align(16))]
struct PluginChecker {
    class: usize,
    fd: c_int,
    timeout_s: u32,
    disable: c_int,
    message: i16,
    context: usize,
    map_context: usize,
    spare: [u64; 8],
}

type Call = unsafe extern "C" fn(*mut PluginChecker) -> c_int;

struct Functions {
    init: Call,
    check: Call,
    free: unsafe extern "C" fn(*mut PluginChecker),
    reset: Option<unsafe extern "C" fn()>,
    // Last, because it contains the other fields' code.
    _library: Library,
}

/// A checker. The plugin identifies it by its address.
struct CheckedPath {
    checker: Box<PluginChecker>,
    _file: File,
    state: c_int,
    begun: Instant,
    took_us: u64,
}

struct Plugin {
    paths: Vec<CheckedPath>,
    /// The checker class. Among other things, all zeros means asynchronous.
    _class: Box<[u64; 512]>,
    timed: bool,
    functions: Functions,
}

/// Finds the plugin.
pub(crate) fn find() -> Result<&'static str, String> {
    PLUGINS
        .into_iter()
        .find(|file| Path::new(file).exists())
        .ok_or_else(|| "not installed (Debian: apt install multipath-tools)".to_owned())
}

fn load() -> Result<Functions, String> {
    let file = find()?;
    let failed = |error: libloading::Error| format!("{file}: {error}");
    // SAFETY: the plugin's initialisers are those of a library that multipathd loads in the same
    // way.
    let library = unsafe { Library::open(Some(file), RTLD_LAZY | RTLD_LOCAL) }.map_err(failed)?;
    // SAFETY: this only checks whether the symbol exists.
    if unsafe { library.get::<*const c_void>(b"libcheck_need_wait\0") }.is_ok() {
        return Err(format!(
            "{file} is from multipath-tools 0.11 or later, whose interface differs; 0.7.9 to 0.10 are supported"
        ));
    }
    // SAFETY: the types are those of the interface.
    let init = unsafe { library.get::<Call>(b"libcheck_init\0") }.map_err(failed)?;
    // SAFETY: as above.
    let check = unsafe { library.get::<Call>(b"libcheck_check\0") }.map_err(failed)?;
    // SAFETY: as above.
    let free =
        unsafe { library.get::<unsafe extern "C" fn(*mut PluginChecker)>(b"libcheck_free\0") }
            .map_err(failed)?;
    // SAFETY: as above. Early versions do not have it.
    let reset = unsafe { library.get::<unsafe extern "C" fn()>(b"libcheck_reset\0") }.ok();
    Ok(Functions {
        init: *init,
        check: *check,
        free: *free,
        reset: reset.map(|reset| *reset),
        _library: library,
    })
}

pub(crate) fn open(job: &Job) -> Result<Box<dyn Contender>, String> {
    let functions = load()?;
    let class = Box::new([0; 512]);
    let mut paths = Vec::new();
    for path in &job.paths {
        let file = File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let mut checker = Box::new(PluginChecker {
            class: class.as_ptr().expose_provenance(),
            fd: file.as_raw_fd(),
            timeout_s: job.timeout.as_secs().max(1) as u32,
            ..PluginChecker::default()
        });
        // SAFETY: the checker is filled in as multipathd does it, and does not move until it is
        // freed.
        if unsafe { (functions.init)(&raw mut *checker) } != 0 {
            return Err(format!("{}: the plugin refuses it", path.display()));
        }
        paths.push(CheckedPath {
            checker,
            _file: file,
            state: 0,
            begun: Instant::now(),
            took_us: 0,
        });
    }
    Ok(Box::new(Plugin {
        paths,
        _class: class,
        timed: job.timed,
        functions,
    }))
}

impl Plugin {
    fn check(&mut self, index: usize) {
        let path = &mut self.paths[index];
        // SAFETY: the checker was initialised and not freed.
        path.state = unsafe { (self.functions.check)(&raw mut *path.checker) };
        if self.timed && path.state != STATE_PENDING {
            path.took_us = path.begun.elapsed().as_micros() as u64;
        }
    }
}

impl Contender for Plugin {
    fn sweep(&mut self) {
        let mut tick = Instant::now();
        for index in 0..self.paths.len() {
            if self.timed {
                self.paths[index].begun = Instant::now();
            }
            self.check(index);
        }
        let pending = |path: &CheckedPath| path.state == STATE_PENDING;
        while self.paths.iter().any(pending) {
            tick += TICK;
            thread::sleep(tick.saturating_duration_since(Instant::now()));
            for index in 0..self.paths.len() {
                if pending(&self.paths[index]) {
                    self.check(index);
                }
            }
        }
    }

    fn path_counts(&self) -> PathCounts {
        PathCounts::of(self.paths.iter().map(|path| path.state == STATE_UP))
    }

    fn latencies_us(&self) -> Vec<Option<u64>> {
        let took =
            |path: &CheckedPath| (self.timed && path.state == STATE_UP).then_some(path.took_us);
        self.paths.iter().map(took).collect()
    }

    /// The plugin makes them in its own library.
    fn syscalls(&self) -> Option<u64> {
        None
    }
}

impl Drop for Plugin {
    /// Like a reconfiguration of multipathd: all checkers are freed, then the plugin is reset.
    fn drop(&mut self) {
        for path in &mut self.paths {
            // SAFETY: the checker was initialised, and is not used again.
            unsafe { (self.functions.free)(&raw mut *path.checker) };
        }
        if let Some(reset) = self.functions.reset {
            // SAFETY: no checker is left.
            unsafe { reset() };
        }
    }
}
