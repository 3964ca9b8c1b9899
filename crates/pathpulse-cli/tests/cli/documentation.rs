//! `pathpulse completions` and `pathpulse man`, tested with the programs that read their output.

use std::path::Path;
use std::process::Command;

use pathpulse_faultdisk::report_skip;
use serde_json::Value;

use super::common::{assert_error_line, root, run, stderr, stdout};

/// The completions of bash for these words, the last of which is incomplete.
fn bash_completes(script: &Path, words: &[&str]) -> Vec<String> {
    let ask = r#"
        source "$1"; shift
        COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
        _pathpulse pathpulse "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
        printf '%s\n' "${COMPREPLY[@]}""#;
    let output = Command::new("bash")
        .args(["--norc", "--noprofile", "-c", ask, "bash"])
        .arg(script)
        .args(words)
        .output()
        .expect("bash");
    assert!(output.status.success(), "{}", stderr(&output));
    stdout(&output)
        .split_whitespace()
        .map(str::to_owned)
        .collect()
}

#[test]
fn bash_completes_commands_options_and_values() {
    let folder = tempfile::tempdir().expect("a folder");
    let script = folder.path().join("pathpulse.bash");
    let output = run(["completions", "bash"]);
    assert!(output.status.success(), "{}", stderr(&output));
    std::fs::write(&script, &output.stdout).expect("written");
    assert_eq!(bash_completes(&script, &["pathpulse", "sta"]), ["status"]);
    let commands = bash_completes(&script, &["pathpulse", ""]);
    for command in ["check", "run", "events", "doctor", "stop"] {
        assert!(commands.iter().any(|c| c == command), "{commands:?}");
    }
    assert_eq!(
        bash_completes(&script, &["pathpulse", "status", "--soc"]),
        ["--socket"]
    );
    assert_eq!(
        bash_completes(&script, &["pathpulse", "status", "--format", ""]),
        ["table", "json"]
    );
}

#[test]
fn every_shell_has_its_script_and_unknown_shells_are_refused() {
    for (shell, sign) in [
        ("bash", "complete -F"),
        ("zsh", "#compdef pathpulse"),
        ("fish", "complete -c pathpulse"),
    ] {
        let text = stdout(&run(["completions", shell]));
        assert!(text.contains(sign), "{shell}: {text}");
    }
    let refused = run(["completions", "tcsh"]);
    assert_eq!(refused.status.code(), Some(3));
    assert_error_line(&refused, &["tcsh", "bash", "fish", "zsh"]);
}

#[test]
fn every_command_has_a_manual_page_that_mandoc_accepts() {
    let folder = tempfile::tempdir().expect("a folder");
    let pages = folder.path().join("share/man1");
    let output = run(["man".as_ref(), pages.as_os_str()]);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = |name: &str| {
        let page = std::fs::read_to_string(pages.join(name));
        page.unwrap_or_else(|error| panic!("{name}: {error}"))
    };
    assert!(text("pathpulse.1").contains("pathpulse\\-status(1)"));
    assert!(text("pathpulse-check.1").contains("Exit status"));
    assert!(text("pathpulse-config-check.1").contains("pathpulse config check"));
    assert!(!pages.join("pathpulse-rig-server.1").exists());
    let files: Vec<_> = std::fs::read_dir(&pages)
        .expect("a folder")
        .flatten()
        .collect();
    let lint = Command::new("mandoc")
        .args(["-T", "lint", "-W", "error"])
        .args(files.iter().map(std::fs::DirEntry::path))
        .output();
    match lint {
        Ok(lint) => assert!(lint.status.success(), "{}{}", stdout(&lint), stderr(&lint)),
        Err(error) => report_skip(&format!("mandoc: {error}")),
    }
}

#[test]
fn man_names_a_directory_that_cannot_be_created() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let refused = run(["man".as_ref(), file.path().join("man1").as_os_str()]);
    assert_eq!(refused.status.code(), Some(1));
    assert_error_line(
        &refused,
        &[file.path().to_str().expect("text"), "directory"],
    );
}

#[test]
fn the_files_of_the_debian_package_exist() {
    let package_folder = root().join("crates/pathpulse-cli");
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version=1", "--offline"])
        .current_dir(&package_folder)
        .output()
        .expect("cargo");
    let workspace: Value = serde_json::from_slice(&output.stdout).expect("a document");
    let members = workspace["packages"].as_array().expect("a list");
    let this = members
        .iter()
        .find(|member| member["name"] == "pathpulse-cli");
    let package = &this.expect("a member")["metadata"]["deb"];
    let assets = package["assets"].as_array().expect("a list");
    let files = assets
        .iter()
        .map(|asset| asset[0].as_str().expect("a file"));
    let made_before = |file: &&str| !file.contains("target/");
    for file in files.filter(made_before) {
        // The directory of a pattern must exist.
        let place = file.split('*').next().expect("a name");
        assert!(package_folder.join(place).exists(), "{file}");
    }
    let unit = package["systemd-units"]["unit-scripts"]
        .as_str()
        .expect("a folder");
    assert!(package_folder.join(unit).join("pathpulse.service").exists());
}
