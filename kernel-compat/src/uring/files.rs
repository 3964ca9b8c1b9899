//! Closes the files of detached targets in threads.

use super::*;

impl Uring {
    /// Starts closing the files of detached targets that have no reads in flight.
    pub(super) fn close_detached(&mut self) {
        if self.detached.is_empty() {
            return;
        }
        let detached = std::mem::take(&mut self.detached);
        self.detached = detached
            .into_iter()
            .filter(|id| !self.start_close(*id))
            .collect();
        self.ring.flush();
    }

    /// Returns whether this detached target is done.
    fn start_close(&mut self, TargetId(key): TargetId) -> bool {
        match self.targets.get(key) {
            None => return true,
            Some(target) if target.reads > 0 => return false,
            Some(target) if target.unregistered.is_some() => {
                self.close(key, Err(Errno::ENOENT));
                return true;
            }
            Some(_) => {}
        }
        let sqe = opcode::FixedFdInstall::new(types::Fixed(key.index()), 0)
            .build()
            .user_data(CompletionKind::Install.of(key));
        // SAFETY: the SQE names no memory.
        self.make_space(1) && unsafe { self.ring.push(&[sqe]) }
    }

    /// Has a thread close the file of a target. `installed` is the descriptor of a registered file.
    /// If the installation failed, this thread closes the file.
    pub(super) fn close(&mut self, key: Key, installed: KernelResult) {
        let Some(target) = self.targets.remove(key) else {
            return;
        };
        let file = target.unregistered.or_else(|| {
            let registrar = self.ring.registrar();
            // This can't fail for an index of the table.
            let _ = registrar.register_files_update(key.index(), &[-1]);
            let fd = installed.ok()?.cast_signed();
            // SAFETY: the kernel has just made this descriptor for us, and nobody else uses it.
            Some(unsafe { OwnedFd::from_raw_fd(fd) })
        });
        let closed = target.closed;
        if let Some(file) = file {
            self.closers.run_in_background(Box::new(move || {
                drop(file);
                drop(closed);
            }));
            self.closing = true;
        }
    }

    /// Starts more closing threads if some are blocked. Returns when to call it again.
    pub(super) fn dispatch_closers(&mut self) -> Option<Mono> {
        if !self.closing {
            return None;
        }
        let next_dispatch = self.closers.dispatch();
        self.closing = next_dispatch.is_some();
        next_dispatch
    }
}
