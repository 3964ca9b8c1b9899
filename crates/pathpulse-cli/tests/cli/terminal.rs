//! A terminal of tmux's: what a program has drawn is read from it as a person would, and keys are typed.

use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use super::common::PATIENCE;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// A terminal of 80 by 24 on a server of its own, which ends when this is dropped.
pub(crate) struct Terminal(tempfile::TempDir);

impl Terminal {
    /// Runs a line of shell in a terminal, which stays when the line has ended; `None` without tmux.
    pub(crate) fn start(line: &str) -> Option<Terminal> {
        let terminal = Terminal(tempfile::tempdir().expect("a folder"));
        // What comes after its end keeps the screen.
        let line = format!("{line}; exec sleep 1000");
        let size = ["new-session", "-d", "-x", "80", "-y", "24"];
        let mut tmux = terminal.tmux();
        let output = tmux.args(size).arg(line).output().ok()?;
        assert!(output.status.success(), "{output:?}");
        Some(terminal)
    }

    fn tmux(&self) -> Command {
        let mut tmux = Command::new("tmux");
        tmux.args(["-u", "-f", "/dev/null", "-S"])
            .arg(self.0.path().join("tmux"))
            .env_remove("TMUX")
            .env_remove("NO_COLOR");
        tmux
    }

    fn tell(&self, words: &[&str]) -> Output {
        let output = self.tmux().args(words).output().expect("it ran before");
        assert!(output.status.success(), "{words:?}: {output:?}");
        output
    }

    /// Types keys, each by its name.
    pub(crate) fn press(&self, keys: &[&str]) {
        self.tell(&[&["send-keys"], keys].concat());
    }

    /// What is on the screen.
    pub(crate) fn screen(&self) -> String {
        let output = self.tell(&["capture-pane", "-p"]);
        String::from_utf8(output.stdout).expect("text")
    }

    /// Waits until the screen is as wanted.
    pub(crate) fn wait(&self, what: &str, is_so: impl Fn(&str) -> bool) -> String {
        let begin = Instant::now();
        loop {
            let screen = self.screen();
            if is_so(&screen) {
                return screen;
            }
            assert!(begin.elapsed() < PATIENCE, "{what}:\n{screen}");
            thread::sleep(PAUSE);
        }
    }

    /// Waits until a line has this in it.
    pub(crate) fn wait_text(&self, text: &str) -> String {
        self.wait(text, |screen| screen.contains(text))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.tmux().arg("kill-server").output();
    }
}
