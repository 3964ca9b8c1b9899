//! A sweep ends when all its paths have verdicts, whatever their disks do.

use std::process::Command;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use pathpulse::{Choice, State, Sweep};
use pathpulse_faultdisk::{Load, Rig, Spec, require};

/// Only a bug takes this long.
const PATIENCE: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_millis(300);

#[test]
fn a_sweep_over_saturated_disks_ends() {
    require!();
    let mut server = Command::new(env!("CARGO_BIN_EXE_pathpulse"));
    server.arg("rig-server");
    let rig = Rig::start_with(server, &Spec::loops(2)).expect("fault disks");
    let paths: Vec<_> = rig.disks().iter().map(|d| d.path().to_owned()).collect();
    let (ready, opened) = channel();
    let (go, started) = channel::<()>();
    let (done, swept) = channel();
    thread::spawn(move || {
        let mut sweep = Sweep::new(&paths, TIMEOUT, Choice::Auto).expect("opens");
        ready.send(()).expect("waited for");
        let _ = started.recv();
        // The first run detects that the disks make no progress, and the second one knows it.
        let checked = sweep.run().checked + sweep.run().checked;
        let states: Vec<State> = sweep.status().map(|path| path.state).collect();
        let _ = done.send((checked, states));
    });
    opened.recv_timeout(PATIENCE).expect("both answer");
    for disk in 0..2 {
        rig.saturate(disk, Load::Dead).expect("saturated");
    }
    go.send(()).expect("it waits");
    let (checked, states) = swept.recv_timeout(PATIENCE).expect("it ends");
    assert_eq!(checked, 4);
    assert_eq!(states, [State::Down, State::Down]);
}
