//! A terminal in tmux: tests read its screen and type keys.

use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use super::common::PATIENCE;

/// Time between two reads of the screen.
const PAUSE: Duration = Duration::from_millis(20);

/// A terminal of 80 by 24 on its own tmux server, which ends when this is dropped.
pub(crate) struct Terminal(tempfile::TempDir);

impl Terminal {
    /// Runs a shell command in a terminal, which stays open after its end; `None` without tmux.
    pub(crate) fn start(line: &str) -> Option<Terminal> {
        let terminal = Terminal(tempfile::tempdir().expect("a folder"));
        // The command after it keeps the screen.
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

    /// Types keys, by their names.
    pub(crate) fn press(&self, keys: &[&str]) {
        self.tell(&[&["send-keys"], keys].concat());
    }

    /// The text of the screen.
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

    /// Waits until the screen has this text.
    pub(crate) fn wait_text(&self, text: &str) -> String {
        self.wait(text, |screen| screen.contains(text))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.tmux().arg("kill-server").output();
    }
}
