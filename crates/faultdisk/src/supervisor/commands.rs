//! Executes the user's commands: most go to the server, some also change devices or load processes.

use std::collections::hash_map::Entry;
use std::io;
use std::process::Stdio;
use std::time::Duration;

use super::{Loaded, RunningRig, end_load, info};
use crate::client::lock;
use crate::loopdev;
use crate::spec::{Behaviour, Load, Release};
use crate::wire::{AnswerMsg, CommandMsg, context, invalid};

/// How long a load process may take to fill all tags.
const FILL_TAGS: Duration = Duration::from_secs(20);
/// The kernel wakes processes that wait for a tag only after this many tags were freed. If fewer
/// were freed at a time, a tag used by another process would stay free for the next one.
const WAKE_BATCH: u32 = 8;
/// Threads of a load process in addition to the number of tags. They wait for the tags that other
/// processes return.
const SPARE_THREADS: usize = 32;

impl RunningRig {
    pub(super) fn execute(&self, command: CommandMsg) -> io::Result<AnswerMsg> {
        match &command {
            CommandMsg::Set(changes) => changes
                .iter()
                .try_for_each(|(disk, _)| self.check_lowest(*disk))?,
            CommandMsg::Release(disk, _)
            | CommandMsg::Recover(disk)
            | CommandMsg::Counts(disk)
            | CommandMsg::WaitHeld { disk, .. }
            | CommandMsg::WaitArrived { disk, .. }
            | CommandMsg::Vanish(disk)
            | CommandMsg::Reappear(disk) => self.check_lowest(*disk)?,
            CommandMsg::Start { .. }
            | CommandMsg::Saturate(..)
            | CommandMsg::Unsaturate(_)
            | CommandMsg::Shutdown => {}
        }
        match command {
            CommandMsg::Saturate(disk, load) => self.saturate(disk, load),
            CommandMsg::Unsaturate(disk) => self.unsaturate(self.lowest(disk)),
            CommandMsg::Recover(disk) if self.is_loaded(disk) => self.unsaturate(disk),
            CommandMsg::Vanish(disk) => self.vanish(disk),
            CommandMsg::Reappear(disk) => self.reappear(disk),
            CommandMsg::Set(ref changes)
                if changes.iter().any(|(disk, _)| self.is_loaded(*disk)) =>
            {
                Err(invalid(
                    "a saturated disk's behaviour cannot be set: unsaturate it first",
                ))
            }
            other => self.server()?.call(other),
        }
    }

    fn is_loaded(&self, disk: usize) -> bool {
        lock(&self.loads)
            .as_ref()
            .is_some_and(|loads| loads.contains_key(&self.lowest(disk)))
    }

    fn loop_of(&self, disk: usize) -> Option<u32> {
        *lock(self.loops.get()?).get(disk)?
    }

    fn set(&self, disk: usize, behaviour: Behaviour) -> io::Result<AnswerMsg> {
        self.server()?
            .call(CommandMsg::Set(vec![(disk, behaviour)]))
    }

    /// Fills all tags of a hanging disk. Then lets it drip if its reads should end. The lowest disk
    /// of a stack hangs and drips for the disks above it.
    fn saturate(&self, disk: usize, load: Load) -> io::Result<AnswerMsg> {
        let number = self
            .loop_of(disk)
            .ok_or_else(|| invalid("only a loop device can be saturated"))?;
        let (every, ends) = match load {
            Load::Dead => (None, Release::Data),
            Load::Busy { answer_every } => (Some(answer_every), Release::Data),
            Load::Failing { fail_every, errno } => (Some(fail_every), Release::Error(errno)),
        };
        ends.check()?;
        let tags = loopdev::tags(number)?;
        let lowest = self.lowest(disk);
        self.set(lowest, Behaviour::Hang)?;
        self.start_load(disk, number, tags + SPARE_THREADS)?;
        let full = CommandMsg::WaitHeld {
            disk: lowest,
            at_least: tags,
            timeout: FILL_TAGS,
        };
        self.server()?
            .call(full)
            .map_err(|e| context(format_args!("filling the {tags} tags"), e))?;
        let Some(every) = every else {
            return Ok(AnswerMsg::Done);
        };
        let drip = Behaviour::Drip {
            every: every * WAKE_BATCH,
            at_once: WAKE_BATCH,
            ends,
        };
        self.set(lowest, drip)
    }

    fn start_load(&self, disk: usize, number: u32, threads: usize) -> io::Result<()> {
        let mut loads = lock(&self.loads);
        let loads = loads
            .as_mut()
            .ok_or_else(|| invalid("the rig is being taken down"))?;
        match loads.entry(self.lowest(disk)) {
            Entry::Occupied(loaded) if loaded.get().disk != disk => Err(invalid(format!(
                "disk {disk} cannot be saturated while disk {} of its stack is saturated",
                loaded.get().disk
            ))),
            Entry::Occupied(_) => Ok(()),
            Entry::Vacant(free) => {
                let mut command = self.starter.command("load");
                command.arg(loopdev::node(number)).arg(threads.to_string());
                command.stdin(Stdio::piped()).stdout(Stdio::null());
                let load = command.spawn()?;
                free.insert(Loaded { disk, load });
                Ok(())
            }
        }
    }

    /// Kills the load first, so that it makes no more reads. Then the disk answers again: only then
    /// can the load process end.
    fn unsaturate(&self, disk: usize) -> io::Result<AnswerMsg> {
        self.kill_load(disk)?;
        let answer = self.server()?.call(CommandMsg::Recover(disk))?;
        self.stop_load(disk)?;
        Ok(answer)
    }

    fn kill_load(&self, disk: usize) -> io::Result<()> {
        let mut loads = lock(&self.loads);
        let load = loads.as_mut().and_then(|loads| loads.get_mut(&disk));
        load.map_or(Ok(()), |loaded| loaded.load.kill())
    }

    fn stop_load(&self, disk: usize) -> io::Result<()> {
        let load = lock(&self.loads)
            .as_mut()
            .and_then(|loads| loads.remove(&disk));
        load.map_or(Ok(()), end_load)
    }

    fn vanish(&self, disk: usize) -> io::Result<AnswerMsg> {
        let mut others = self.spec.disks.iter();
        if let Some(upper) = others.position(|other| other.on == Some(disk)) {
            let why = format!("disk {disk} cannot vanish: disk {upper} lies on it");
            return Err(invalid(why));
        }
        self.kill_load(disk)?;
        let answer = self.server()?.call(CommandMsg::Vanish(disk))?;
        self.stop_load(disk)?;
        if let Some(number) = self.loop_of(disk) {
            std::fs::metadata(self.folder.file(disk))?; // Makes the kernel read the new size, 0.
            loopdev::adopt_size(number)?;
            loopdev::detach(number)?;
            std::fs::remove_file(loopdev::node(number))?;
            self.remove_pulled(Some(number))?;
        }
        Ok(answer)
    }

    /// Removes the vanished devices that nobody has open any more.
    fn remove_pulled(&self, more: Option<u32>) -> io::Result<()> {
        let control = loopdev::control()?;
        let mut pulled = lock(&self.pulled);
        pulled.extend(more);
        pulled.retain(|&number| !matches!(loopdev::remove(&control, number), Ok(true)));
        Ok(())
    }

    /// Gives a vanished disk a new loop device.
    fn reappear(&self, disk: usize) -> io::Result<AnswerMsg> {
        self.remove_pulled(None)?;
        // Keeps the lock so that the rig is not taken down in the meantime, which would leave the
        // new device behind.
        let loads = lock(&self.loads);
        if loads.is_none() {
            return Err(invalid("the rig is being taken down"));
        }
        self.server()?.call(CommandMsg::Reappear(disk))?;
        let number = self.loop_of(disk);
        let new = number.map(|_| {
            std::fs::metadata(self.folder.file(disk))?; // Makes the kernel read the file's size.
            let (control, start) = (loopdev::control()?, loopdev::random_start());
            let file = self.folder.file(disk);
            self.make_loop(&control, start, &file, &self.spec.disks[disk])
        });
        let new = new.transpose()?;
        if let Some(slot) = self
            .loops
            .get()
            .map(lock)
            .as_mut()
            .and_then(|l| l.get_mut(disk))
        {
            *slot = new;
        }
        info(self.folder.file(disk), new).map(AnswerMsg::Disk)
    }

    /// The lowest disk of this disk's stack. Commands go to that one.
    fn lowest(&self, disk: usize) -> usize {
        let below = |disk: &usize| self.spec.disks.get(*disk)?.on;
        std::iter::successors(Some(disk), below)
            .last()
            .unwrap_or(disk)
    }

    /// Refuses commands for a disk that is not the lowest of its stack.
    fn check_lowest(&self, disk: usize) -> io::Result<()> {
        match self.lowest(disk) {
            lowest if lowest == disk => Ok(()),
            lowest => Err(invalid(format!(
                "disk {disk} lies on disk {lowest}: send the command to that disk"
            ))),
        }
    }
}
