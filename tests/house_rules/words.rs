//! One plain word for one thing: names that an engineer of this field would look for.

use crate::known::Violation;
use crate::repository::{File, Repository};

/// Where a word is not to be used.
#[derive(Clone, Copy)]
enum Use {
    /// As a part of any name, and in comments.
    Any,
    /// As a whole name in code, or quoted in a comment; elsewhere it is plain English.
    Name,
    /// As the name of a file or folder.
    File,
}

/// A word, a better one, where it is not to be used, and the folder below which that holds.
struct Word(&'static str, &'static str, Use, &'static str);

const ALL: &str = "";
const LIBRARY: &str = "src/";
const COMPAT: &str = "kernel-compat/";
const CLI: &str = "crates/pathpulse-cli/";
const DAEMON: &str = "crates/pathpulse-cli/src/daemon/";
const CHAOS: &str = "tests/chaos/";

const WORDS: &[Word] = &[
    // The library.
    Word("watched", "PathRuntime", Use::File, LIBRARY),
    Word("Watched", "PathRuntime", Use::Name, ALL),
    Word("Outside", "WorkerEnv", Use::Name, ALL),
    Word("outside", "reopen", Use::File, ALL),
    Word("Carrier", "BackendHandle", Use::Name, ALL),
    Word("carrier", "backend", Use::Name, ALL),
    Word("sibling", "peer", Use::Any, ALL),
    Word("spared", "kept_up", Use::Any, ALL),
    Word("blemish", "impairment", Use::Any, ALL),
    Word("blemishes", "impairments", Use::Any, ALL),
    Word("standstill", "no progress", Use::Any, ALL),
    Word("KeptOut", "Backpressure", Use::Name, ALL),
    Word("patience", "backoff", Use::Any, LIBRARY),
    Word("Pace", "CheckTiming", Use::Name, ALL),
    Word("hasten", "reschedule_earlier", Use::Any, ALL),
    Word("Evidence", "DeviceProbe", Use::Name, ALL),
    Word("Why", "UnknownReason", Use::Name, ALL),
    Word("Stall", "SchedulingGap", Use::Name, LIBRARY),
    Word("Departed", "RemovedPath", Use::Name, ALL),
    Word("obey", "handle", Use::Any, LIBRARY),
    Word("go_on", "step", Use::Name, ALL),
    Word("look", "poll", Use::Name, LIBRARY),
    Word("turn", "tick", Use::Name, LIBRARY),
    // What touches the kernel.
    Word("desk", "ReadTracker", Use::Any, ALL),
    Word("doorbell", "EpollWaiter", Use::Any, ALL),
    Word("Rung", "Wakeup", Use::Name, COMPAT),
    Word("Life", "ReadState", Use::Name, COMPAT),
    Word("life", "read_state", Use::File, COMPAT),
    Word("Asked", "AsyncCancel", Use::Name, COMPAT),
    Word("Link", "LinkedTimeout", Use::Name, COMPAT),
    Word("entry", "sqe", Use::File, COMPAT),
    Word("Gather", "Batching", Use::Name, COMPAT),
    Word("chore", "BackgroundTask", Use::Any, ALL),
    Word("whereabouts", "CancelResult", Use::Any, ALL),
    Word("Room", "ContextSlots", Use::Name, COMPAT),
    Word("strays", "unknown_completions", Use::Name, ALL),
    // The daemon.
    Word("roster", "watchlist", Use::Any, ALL),
    Word("keeper", "WatchlistTask or EventStore", Use::Any, ALL),
    Word("farewell", "removal", Use::Any, ALL),
    Word("lost", "missing", Use::File, CLI),
    Word("uses", "holders", Use::File, DAEMON),
    Word("waiting", "open_retry", Use::File, DAEMON),
    Word("asker", "PendingReply", Use::Any, ALL),
    Word("ticket", "open_generation", Use::Any, ALL),
    Word("visitor", "Peer", Use::Any, ALL),
    Word("gate", "authorize", Use::Name, CLI),
    Word("doors", "Listeners", Use::Any, ALL),
    Word("Claim", "SocketLock", Use::Name, ALL),
    Word("Tally", "EventCounters", Use::Name, CLI),
    Word("Sheet", "MetricsWriter", Use::Name, ALL),
    Word("ledger", "FailedPathLog", Use::Any, DAEMON),
    Word("Taken", "FailedPaths", Use::Name, DAEMON),
    Word("deed", "MapAction", Use::Any, ALL),
    Word("legs", "paths", Use::Any, DAEMON),
    Word("journal", "event_log", Use::File, CLI),
    Word("apart", "subprocess", Use::File, CLI),
    // Messages.
    Word("Order", "a name that ends in Msg", Use::Name, DAEMON),
    Word("Notice", "a name that ends in Msg", Use::Name, ALL),
    Word("Told", "a name that ends in Msg", Use::Name, ALL),
    Word("Said", "a name that ends in Msg", Use::Name, ALL),
    Word("News", "a name that ends in Msg", Use::Name, ALL),
    // Tests and benchmarks.
    Word("crew", "disk_driver", Use::Any, ALL),
    Word("player", "scenario_runner", Use::Any, CHAOS),
    Word("judge", "oracle", Use::File, CHAOS),
    Word("Judge", "Oracle", Use::Name, ALL),
    Word("truth", "model", Use::File, CHAOS),
    Word("Truth", "Model", Use::Name, ALL),
    Word("janitor", "supervisor", Use::Any, ALL),
    Word("troupe", "DemoDisks", Use::Any, ALL),
    Word("Bed", "TestDevices", Use::Name, ALL),
    Word("lean", "baseline", Use::Name, "crates/bench/"),
    Word("lean", "baseline", Use::File, ALL),
    Word("looks", "status_snapshots", Use::File, ALL),
    Word("breaking", "backend_loss", Use::File, ALL),
    Word("frugal", "allocations", Use::Any, ALL),
];

pub(crate) fn violations(repository: &Repository) -> Vec<Violation> {
    let files = repository
        .ending(".rs")
        .filter(|file| !file.path.starts_with("tests/house_rules/"));
    files.flat_map(in_file).collect()
}

fn in_file(file: &File) -> Vec<Violation> {
    let words: Vec<&Word> = WORDS
        .iter()
        .filter(|word| file.path.starts_with(word.3))
        .collect();
    let mut violations = Vec::new();
    let mut report = |number, Word(word, better, ..): &Word| {
        let what = format!("`{word}`; say {better}");
        violations.push(Violation::new(&file.path, number, what));
    };
    for word in words.iter().filter(|word| is_in_path(word, &file.path)) {
        report(0, word);
    }
    for (number, line) in file.lines().iter().enumerate() {
        let names = Names::of(&line.code, &line.comment);
        for word in words.iter().filter(|word| names.have(word)) {
            report(number + 1, word);
        }
    }
    violations
}

/// The names of a line.
struct Names<'a> {
    /// In code, or quoted in the comment.
    whole: Vec<&'a str>,
    /// The words of these, and of the comment.
    parts: Vec<String>,
}

impl<'a> Names<'a> {
    fn of(code: &'a str, comment: &'a str) -> Names<'a> {
        let quoted = comment.split('`').skip(1).step_by(2);
        let all = identifiers(code).chain(identifiers(comment));
        Names {
            parts: all.flat_map(parts).collect(),
            whole: identifiers(code)
                .chain(quoted.flat_map(identifiers))
                .collect(),
        }
    }

    fn have(&self, Word(word, _, how, _): &Word) -> bool {
        match how {
            Use::File => false,
            Use::Name => self.whole.contains(word),
            Use::Any => self.parts.iter().any(|part| is_word(part, word)),
        }
    }
}

fn is_in_path(Word(word, _, how, _): &Word, path: &str) -> bool {
    match how {
        Use::Name => false,
        Use::File => path
            .trim_end_matches(".rs")
            .split('/')
            .any(|part| part == *word),
        Use::Any => path
            .split(['/', '.'])
            .flat_map(parts)
            .any(|part| is_word(&part, word)),
    }
}

/// Whether this is the word, or more than one of it.
fn is_word(part: &str, word: &str) -> bool {
    part == word || part.strip_suffix('s') == Some(word)
}

/// The names and words of a text.
pub(crate) fn identifiers(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|char: char| !char.is_alphanumeric() && char != '_');
    words.filter(|word| !word.is_empty())
}

/// The words that a name is made of, in lower case.
fn parts(name: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut was_lower = false;
    for char in name.chars() {
        if char == '_' || (char.is_uppercase() && was_lower) {
            parts.push(String::new());
        }
        was_lower = char.is_lowercase();
        if char != '_' {
            let last = parts.last_mut().expect("there is always one");
            last.extend(char.to_lowercase());
        }
    }
    parts
}

#[test]
fn words_are_found_in_names_and_comments() {
    let is_in = |word: &Word, code, comment| Names::of(code, comment).have(word);
    let any = Word("desk", "", Use::Any, ALL);
    assert!(is_in(&any, "struct ReadDesk;", ""));
    assert!(is_in(&any, "let front_desk = 1;", ""));
    assert!(is_in(&any, "", "/// Desks."));
    assert!(!is_in(&any, "desktop()", ""));
    assert!(is_in_path(&any, "src/desk/mod.rs"));
    let name = Word("Life", "", Use::Name, ALL);
    assert!(is_in(&name, "Life::new()", ""));
    assert!(is_in(&name, "", "/// A [`Life`]."));
    assert!(!is_in(&name, "LifeSpan", "/// Life is short."));
}
