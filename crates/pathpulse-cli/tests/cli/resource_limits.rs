//! Resource limits: paths that exceed a limit are reported, and the others are checked.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::NamedTempFile;

use super::common::{assert_error_line, backend, plain_file, public_binary, stdout};

const NOBODY: u32 = 65_534;

/// Runs a copy of the binary, which every user can run, under a limit of `ulimit`.
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

/// The number of good paths among 40 under this limit of descriptors; the others report the limit.
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
fn with_few_file_descriptors_some_paths_are_checked_and_the_others_reported() {
    let (good, output) = good_of_40("-n 12");
    assert!(good > 0, "{}", stdout(&output));
    assert_eq!(output.status.code(), Some(i32::from(good < 40)));
}

/// This holds for io_uring only: see "What the kernel forces" in kernel-compat.
#[test]
fn a_path_needs_a_descriptor_only_until_the_ring_has_the_file() {
    let (good, output) = good_of_40("-n 42");
    if backend() == "io_uring" {
        assert_eq!(good, 40, "{}", stdout(&output));
    } else {
        // Standard input, output and error use three descriptors.
        assert!((1..40).contains(&good), "{}", stdout(&output));
    }
}

#[test]
fn without_locked_memory_check_names_the_limit() {
    if !rustix::process::geteuid().is_root() {
        return pathpulse_faultdisk::report_skip("needs root to become somebody else");
    }
    let file = plain_file(1 << 16);
    let output = limited("-l 0", Some(NOBODY), &[file.path()]);
    // Some kernels do not count rings against this limit, and then the path is checked.
    if stdout(&output).is_empty() {
        assert_eq!(output.status.code(), Some(3));
        assert_error_line(&output, &["ENOMEM", "RLIMIT_MEMLOCK", "ulimit -l"]);
    }
}
