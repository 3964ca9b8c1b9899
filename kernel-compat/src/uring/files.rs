//! The files of targets that are given up, and the threads that close them.

use super::*;

impl Uring {
    /// Has the files of detached targets closed once no read of theirs is in flight.
    pub(super) fn forget_detached(&mut self) {
        if self.detached.is_empty() {
            return;
        }
        let detached = std::mem::take(&mut self.detached);
        self.detached = detached
            .into_iter()
            .filter(|id| !self.begin_to_close(*id))
            .collect();
        self.ring.flush();
    }

    /// Says whether a detached target needs no further look.
    fn begin_to_close(&mut self, TargetId(key): TargetId) -> bool {
        match self.targets.get(key) {
            None => return true,
            Some(target) if target.reads > 0 => return false,
            Some(target) if target.unregistered.is_some() => {
                self.close(key, Err(Errno::ENOENT));
                return true;
            }
            Some(_) => {}
        }
        let entry = opcode::FixedFdInstall::new(types::Fixed(key.index()), 0)
            .build()
            .user_data(Kind::Install.of(key));
        // SAFETY: the entry names no memory.
        self.make_room(1) && unsafe { self.ring.push(&[entry]) }
    }

    /// Has a thread close the file of a target. `installed` is the descriptor for one of the ring's table:
    /// without, this thread closes it.
    pub(super) fn close(&mut self, key: Key, installed: KernelResult) {
        let Some(target) = self.targets.remove(key) else {
            return;
        };
        let file = target.unregistered.or_else(|| {
            let registrar = self.ring.registrar();
            // Can't fail for a place of the table.
            let _ = registrar.register_files_update(key.index(), &[-1]);
            let fd = installed.ok()?.cast_signed();
            // SAFETY: the kernel made this descriptor for us just now, and nobody else knows it.
            Some(unsafe { OwnedFd::from_raw_fd(fd) })
        });
        let closed = target.closed;
        if let Some(file) = file {
            self.closers.chore(Box::new(move || {
                drop(file);
                drop(closed);
            }));
            self.closing = true;
        }
    }

    /// Sees to it that files are closed though some threads are blocked with that; says when to look again.
    pub(super) fn look_after_closers(&mut self) -> Option<Mono> {
        if !self.closing {
            return None;
        }
        let again = self.closers.dispatch();
        self.closing = again.is_some();
        again
    }
}
