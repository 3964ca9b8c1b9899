//! Limits of the process: what they keep from being checked is said, the rest is checked.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::NamedTempFile;

use super::common::{assert_complaint, backend, plain_file, public_binary, stdout};

const NOBODY: u32 = 65_534;

/// Runs a copy of the binary that anybody may run, under a limit that `ulimit` sets.
fn limited(ulimit: &str, user: Option<u32>, args: &[&Path]) -> Output {
    let (_folder, binary) = public_binary();
    let mut command = Command::new("sh");
    if let Some(user) = user {
        command.uid(user);
    }
    command
        .args(["-c", &format!("ulimit {ulimit}; exec \"$0\" \"$@\"")])
        .arg(&binary)
        .args(["check", "--timeout", "500ms", "--format", "json"])
        .args(args)
        .output()
        .expect("runs")
}

/// How many of 40 paths are good under this limit of descriptors; the others say that it is the limit.
fn good_of_40(ulimit: &str) -> (usize, Output) {
    let files: Vec<_> = (0..40).map(|_| plain_file(1 << 16)).collect();
    let paths: Vec<&Path> = files.iter().map(NamedTempFile::path).collect();
    let output = limited(ulimit, None, &paths);
    let document: Value = serde_json::from_str(&stdout(&output)).expect("a document");
    let paths = document["paths"].as_array().expect("a list");
    let good = paths
        .iter()
        .filter(|path| path["verdict"] == "good")
        .count();
    let refused = paths.iter().filter(|path| path["errno"] == "EMFILE");
    for path in refused.clone() {
        assert_eq!(path["verdict"], "unknown", "no disk is to blame: {path}");
        assert!(
            path["message"]
                .as_str()
                .expect("text")
                .contains("ulimit -n"),
            "{path}"
        );
    }
    assert_eq!(good + refused.count(), 40, "{document}");
    (good, output)
}

#[test]
fn without_file_descriptors_some_paths_are_checked_and_the_others_said() {
    let (good, output) = good_of_40("-n 12");
    assert!(good > 0, "{}", stdout(&output));
    assert_eq!(output.status.code(), Some(i32::from(good < 40)));
}

/// With io_uring. The other backends keep it: see "What the kernel forces" in kernel-compat.
#[test]
fn a_path_needs_its_descriptor_only_until_the_ring_has_it() {
    let (good, output) = good_of_40("-n 42");
    if backend() == "io_uring" {
        assert_eq!(good, 40, "{}", stdout(&output));
    } else {
        // Standard input, output and error take three of them.
        assert!((1..40).contains(&good), "{}", stdout(&output));
    }
}

#[test]
fn without_locked_memory_it_says_which_limit_to_raise() {
    if !rustix::process::geteuid().is_root() {
        return pathpulse_faultdisk::report_skip("needs root to become somebody else");
    }
    let file = plain_file(1 << 16);
    let output = limited("-l 0", Some(NOBODY), &[file.path()]);
    // Some kernels don't count rings against this limit; then the path can be checked, or seen not
    // to be readable.
    if stdout(&output).is_empty() {
        assert_eq!(output.status.code(), Some(3));
        assert_complaint(&output, &["ENOMEM", "RLIMIT_MEMLOCK", "ulimit -l"]);
    }
}
