use super::*;
use pathpulse::Place;
use std::time::Duration;

fn parsed(text: &str, line: &CommandLine) -> Configuration {
    Configuration::parse(text, line).unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn problems(text: &str) -> Vec<String> {
    let problems = File::parse(text).expect_err("something is wrong");
    problems.iter().map(ToString::to_string).collect()
}

fn line(options: &[(&str, &str)]) -> CommandLine {
    let mut line = CommandLine::default();
    for (name, value) in options {
        line.watch
            .add(&Layer::of_option(name, value).expect("an option"));
    }
    line
}

const LAYERS: &str = r#"
paths = ["/dev/sdb"]
[defaults]
interval = "1s"
fall = 2
[[path]]
name = "/dev/sda"
fall = 5
[[path]]
match = "/dev/sd*"
fall = 4
rise = 4
group = "mine"
[[group]]
match = "m*"
timeout = "3s"
rise = 3
"#;

#[test]
fn the_particular_wins_and_the_command_line_wins_over_all() {
    let configuration = parsed(LAYERS, &line(&[("interval", "100ms")]));
    let names: Vec<_> = configuration
        .named()
        .iter()
        .map(|(p, _)| p.to_owned())
        .collect();
    assert_eq!(names, [Path::new("/dev/sdb"), Path::new("/dev/sda")]);
    let spec = configuration.spec(Path::new("/dev/sda"));
    assert_eq!(spec.group.as_deref(), Some("mine"));
    let settings = spec.settings.expect("said");
    assert_eq!((settings.rules.fall, settings.rules.rise), (5, 4));
    assert_eq!(settings.interval, Duration::from_millis(100));
    assert_eq!(settings.timeout, Duration::from_secs(3));
    let other = configuration.spec(Path::new("/dev/nvme0n1"));
    let settings = other.settings.expect("said");
    assert_eq!((settings.rules.fall, other.group), (2, None));
    assert_eq!(settings.timeout, Settings::default().timeout);
}

#[test]
fn what_is_shown_says_the_same_and_whence() {
    let configuration = parsed(LAYERS, &line(&[("interval", "100ms"), ("fall", "9")]));
    let shown = configuration.show();
    let has = |line: &str, place: &str| {
        let found = shown
            .lines()
            .any(|l| l.starts_with(line) && l.ends_with(place));
        assert!(found, "{line} # {place}\n{shown}");
    };
    has("interval = \"100ms\" ", "# command line");
    has("fall = 9 ", "# command line");
    has("rise = 4 ", "# line 12");
    has("group = \"mine\" ", "# line 13");
    has("timeout = \"2s\" ", "# default");
    let again = parsed(&shown, &CommandLine::default());
    for path in ["/dev/sda", "/dev/sdb", "/dev/sdc", "/dev/x"].map(Path::new) {
        assert_eq!(again.spec(path), configuration.spec(path));
    }
    let names = |c: &Configuration| -> Vec<PathBuf> {
        c.named().iter().map(|(p, _)| p.to_path_buf()).collect()
    };
    assert_eq!(names(&again), names(&configuration));
}

#[test]
fn what_is_shown_names_the_same_paths_whatever_they_are_called() {
    use std::os::unix::ffi::OsStrExt;
    let path = |bytes: &[u8]| PathBuf::from(std::ffi::OsStr::from_bytes(bytes));
    let names: [&[u8]; 7] = [
        b"/dev/sda",
        br"/dev/disk/by-label/A\x20B",
        b"/mnt/say \"x\"\n\x1b\x7f # [y]",
        "/mnt/\u{202e}\u{85}\u{e4}".as_bytes(),
        b"/mnt/caf\xe9\n",
        b"/mnt/a*b",
        b"/dev/x[1]",
    ];
    let line = CommandLine {
        file: Some(path(b"/etc/a\nb")),
        paths: names.map(path).into(),
        socket: Some("p.sock".into()),
        state: Some(path(b"/var/caf\xe9")),
        ..CommandLine::default()
    };
    let shown = parsed("paths = ['/dev/sdb']", &line).show();
    let again = parsed(&shown, &CommandLine::default());
    let mut expected: Vec<PathBuf> = names[..4].iter().map(|name| path(name)).collect();
    expected.push("/dev/sdb".into());
    let named: Vec<PathBuf> = again.named().iter().map(|(p, _)| p.to_path_buf()).collect();
    assert_eq!(named, expected, "{shown}");
    // Names that no file can contain are in remarks.
    for (name, why) in [
        (r"/mnt/caf\xe9\n", "not UTF-8"),
        ("/mnt/a*b", "a pattern"),
        ("/dev/x[1]", "a pattern"),
        (r"state is /var/caf\xe9", "not UTF-8"),
    ] {
        let is_said = |line: &str| {
            let remark = line.trim_start().strip_prefix("# ");
            remark.is_some_and(|remark| remark.starts_with(name) && remark.contains(why))
        };
        assert!(shown.lines().any(is_said), "{name}: {shown}");
    }
    let here = std::path::absolute("p.sock").expect("a folder");
    assert_eq!(again.socket.value, here);
    assert!(shown.contains(r"# /etc/a\nb:1"), "{shown}");
}

#[test]
fn mistakes_are_told_with_their_places() {
    assert_eq!(
        problems("[default]\ninterval = '1s'"),
        ["1:2: unknown key `default`; did you mean `defaults`?"]
    );
    assert_eq!(
        problems("[defaults]\ninterval = '1'\nfal = 2\n[[path]]\nfall = 1\n"),
        [
            "2:12: interval: time unit needed, for example 1sec or 1ms; durations are like 500ms, 2s, 1m30s",
            "3:1: unknown key `fal` in [defaults]; did you mean `fall`?",
            "4:1: [[path]]: missing key: add name = \"...\" or match = \"...*\"",
        ]
    );
    let twice = problems("[[path]]\nname='/a'\n[[path]]\nname='/a'\n");
    assert_eq!(
        twice,
        ["3:1: [[path]]: duplicate section: `/a` has one in line 1"]
    );
    let both = problems("[[group]]\nname='/a'\nmatch='b'\n");
    assert!(both[0].contains("one of them"), "{both:?}");
    let relative = problems("paths = ['/dev/sda', 'sdb']");
    assert_eq!(
        relative,
        ["1:22: paths: `sdb` is not absolute; names begin with a slash: did you mean `/dev/sdb`?"]
    );
    let syntax = problems("a = 1\nb = = 2\nc = 3 4\n");
    assert!(
        syntax.len() > 1 && syntax[0].starts_with("2:5: "),
        "{syntax:?}"
    );
}

#[test]
fn what_can_match_nothing_or_is_in_the_wrong_place_is_told_with_a_hint() {
    let text = "paths = ['/dev/sd*', '/srv/a[1]']\n[discovery]\nexclude = ['/dev/sda', 'sdb']\nskip = ['/dev/loop*']\n\
        interval = '1s'\nworkers = 2\npaths = []\nexcluded = []\nintervall = '1s'\n\
        [[path]]\nname = '/dev/nvme?n1'\n[[path]]\nmatch = 'sd*'\n[[hook]]\nrun = ['/x']\nmatch = ['sdb']\n";
    let expected = [
        "1:10: paths: `/dev/sd*` has wildcards, which are not expanded here; use include = [\"/dev/sd*\"] in [discovery]",
        "3:24: exclude: `sdb` matches nothing: whole names are compared, and they begin with a slash; did you mean `/dev/sdb`?",
        "4:9: skip: `/dev/loop*` matches nothing: the kernel's names have no folder; did you mean `loop*`?",
        "5:1: unknown key `interval` in [discovery]; it belongs in [defaults], [[group]] or [[path]]",
        "6:1: unknown key `workers` in [discovery]; it belongs in [daemon]",
        "7:1: unknown key `paths` in [discovery]; it belongs at the top of the file, above the first [section]",
        "8:1: unknown key `excluded` in [discovery]; did you mean `exclude`?",
        "9:1: unknown key `intervall` in [discovery]; did you mean `interval`, which belongs in [defaults], [[group]] or [[path]]?",
        "11:8: name: `/dev/nvme?n1` has wildcards, which are not expanded here; use match = \"/dev/nvme?n1\"",
        "13:9: match: `sd*` matches nothing: whole names are compared, and they begin with a slash; did you mean `/dev/sd*`?",
        "16:10: match: `sdb` matches nothing: whole names are compared, and they begin with a slash; did you mean `/dev/sdb`?",
    ];
    assert_eq!(problems(text), expected);
}

#[test]
fn each_value_is_shown_with_its_own_origin() {
    let text = "[discovery]\nexclude = ['/dev/sdb']\n[multipath]\nfail_paths = true\n[[hook]]\nrun = ['/x']\n";
    let line = CommandLine {
        socket: Some("/tmp/s".into()),
        workers: Some(2),
        from_environment: vec![("socket", "PATHPULSE_SOCKET")],
        ..CommandLine::default()
    };
    let shown = parsed(text, &line).show();
    for (key, place) in [
        ("workers = 2", "command line"),
        ("socket = ", "environment (PATHPULSE_SOCKET)"),
        ("backend = ", "default"),
        ("include = ", "default"),
        ("exclude = ", "line 2"),
        ("skip = ", "default"),
        ("fail_paths = ", "line 4"),
        ("last_path_too = ", "default"),
        ("run = ", "line 6"),
        ("timeout = \"10s\"", "default"),
    ] {
        let is_shown = |line: &str| line.starts_with(key) && line.ends_with(&format!("# {place}"));
        assert!(shown.lines().any(is_shown), "{key} # {place}\n{shown}");
    }
}

#[test]
fn a_file_that_cannot_be_read_says_why() {
    let folder = tempfile::tempdir().expect("a folder");
    let load = |path: PathBuf| {
        let line = CommandLine {
            file: Some(path),
            ..CommandLine::default()
        };
        Configuration::load(&line).map_err(|error| error.line())
    };
    let missing = load(folder.path().join("missing")).expect_err("missing");
    assert!(missing.contains("missing: No such file"), "{missing}");
    let binary = folder.path().join("binary");
    std::fs::write(&binary, b"a = \xff").expect("written");
    let error = load(binary.clone()).expect_err("binary");
    assert!(error.contains("offset 4"), "{error}");
    std::fs::write(&binary, "x = 1\ny = 1\n").expect("written");
    let error = load(binary.clone()).expect_err("unknown");
    let first = format!("{}:1:1: unknown key `x`", binary.display());
    assert!(
        error.starts_with(&first) && error.contains("and 1 more"),
        "{error}"
    );
    std::fs::write(&binary, "[defaults]\nread_place = 'last'\n").expect("written");
    let good = load(binary).expect("good");
    assert_eq!(good.engine().settings.region.place, Place::Last);
}

#[test]
fn the_example_in_the_package_says_what_is_the_default() {
    let text = include_str!("../../../../../packaging/pathpulse.toml");
    let as_it_is = parsed(text, &CommandLine::default());
    assert_eq!(as_it_is.engine().settings, Settings::default());
    // Each key is there as a remark with its default, or with an example.
    let uncommented: String = text
        .lines()
        .map(|line| line.strip_prefix("#: ").unwrap_or(line).to_owned() + "\n")
        .collect();
    let all = parsed(&uncommented, &CommandLine::default());
    assert_eq!(all.engine().settings, Settings::default());
    assert!(!all.named().is_empty());
    let skip = |discovery: &Discovery| discovery.show()[2].1.clone();
    let said = all.discovery().map(skip);
    assert_eq!(said, Some(skip(&Discovery::default())));
    for (key, _, source) in all.defaults.show() {
        assert!(
            matches!(source, Source::Line(_)),
            "{key} is not in the example"
        );
    }
}
