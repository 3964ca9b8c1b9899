//! The status page, over both listeners of the daemon and in a browser.

use std::path::{Path, PathBuf};
use std::time::Instant;

use pathpulse_faultdisk::{Behaviour, Disk, Release, Spec, report_skip, require};
use serde_json::Value;

use super::browser::Browser;
use super::common::{Daemon, PATIENCE, plain_file, rig};
use super::web::Web;

#[test]
fn the_page_needs_no_script_and_loads_nothing_from_elsewhere() {
    let file = plain_file(1 << 16);
    let nasty = file.path().with_file_name("a <b>&\"name\u{1b}");
    std::fs::copy(file.path(), &nasty).expect("copied");
    std::fs::File::open(&nasty)
        .and_then(|copy| copy.sync_all())
        .expect("synced");
    let daemon = Daemon::spawn(&[file.path(), nasty.as_path()], &["--http", "0"]);
    let listeners = [Web::tcp(&daemon), Web::socket(&daemon)];
    let escaped = file.path().with_file_name("a <b>&\"name\\x1b");
    for path in [file.path(), escaped.as_path()] {
        daemon.wait_state(path, "up");
    }
    let _ = std::fs::remove_file(&nasty);
    for web in listeners {
        let page = web.get("/");
        assert_eq!(page.status, 200, "{page:?}");
        let head = page.head.to_lowercase();
        assert!(head.contains("content-type: text/html"), "{head}");
        let policy = head
            .lines()
            .find(|line| line.starts_with("content-security-policy: "));
        let policy = policy.unwrap_or_else(|| panic!("{head}"));
        assert!(policy.contains("default-src 'none'"), "{policy}");
        assert!(
            !policy.contains("unsafe") && !policy.contains('*'),
            "{policy}"
        );
        assert!(page.body.contains("all 2 paths are up"), "{}", page.body);
        assert!(
            page.body.contains("a &lt;b&gt;&amp;&quot;name\\x1b<"),
            "{}",
            page.body
        );
        assert!(!page.body.contains("<b>&"), "{}", page.body);
        assert!(
            !page.body.contains("//"),
            "all that it needs is here: {}",
            page.body
        );
        assert!(
            !page.body.contains("<style") && !page.body.contains(" style="),
            "{}",
            page.body
        );
        for (asset, kind) in [
            ("/page.js", "text/javascript"),
            ("/page.css", "text/css"),
            ("/icon.svg", "image/svg+xml"),
        ] {
            let answer = web.get(asset);
            assert_eq!(answer.status, 200, "{asset}");
            assert!(
                answer.head.contains(kind) && answer.head.contains("nosniff"),
                "{}",
                answer.head
            );
        }
        let filtered = web.get("/?q=NAME");
        assert!(filtered.body.contains("name\\x1b<"), "{}", filtered.body);
        assert_eq!(filtered.body.matches("<tr data-key").count(), 1);
        assert_eq!(web.get(&format!("/?q={}", "x".repeat(201))).status, 400);
    }
}

/// A configuration with the first two paths in a group, and frequent checks.
fn configuration(folder: &Path, paths: &[&Path]) -> PathBuf {
    let mut text = String::new();
    for (n, path) in paths.iter().enumerate() {
        let group = if n < 2 { "group = \"database\"\n" } else { "" };
        text += &format!("[[path]]\nname = {path:?}\n{group}");
    }
    let file = folder.join("p.toml");
    std::fs::write(&file, text).expect("written");
    file
}

#[test]
fn a_browser_shows_changes_as_they_happen() {
    require!();
    let browser = match Browser::start() {
        Ok(browser) => browser,
        Err(reason) => return report_skip(&reason),
    };
    let disks = rig(&Spec::loops(4));
    let paths: Vec<&Path> = disks.disks().iter().map(Disk::path).collect();
    let folder = tempfile::tempdir().expect("a folder");
    let config = configuration(folder.path(), &paths);
    let none: [&Path; 0] = [];
    let config = config.to_str().expect("text");
    let mut daemon = Daemon::spawn(&none, &["--config", config, "--http", "0"]);
    let Web::Tcp(address) = Web::tcp(&daemon) else {
        unreachable!("it was asked for")
    };
    for path in &paths {
        daemon.wait_state(path, "up");
    }
    let row = |path: &Path| format!("document.querySelector('tr[data-key={path:?}]')");
    let hung = row(paths[1]);
    browser.open(&format!("http://{address}/"));
    browser.wait("document.body.classList.contains('live')");
    browser.wait("document.querySelectorAll('#paths tr[data-key]').length === 4");
    browser.wait("document.title.startsWith('all 4 paths are up')");
    // A reload of the page would remove it.
    browser.script("window.here = 'still'");

    disks.set(1, Behaviour::Hang).expect("set");
    browser.wait(&format!("{hung}.dataset.state === 'down'"));
    browser.wait(&format!("{hung}.innerText.includes('timed_out')"));
    browser.wait("document.title.startsWith('1 of 4 paths is down')");
    browser.wait("document.querySelector('.group').innerText.includes('no redundancy')");
    browser.wait(&format!(
        "{hung} === document.querySelector('#paths tr[data-key]')"
    ));
    browser.wait("document.querySelector('#events li').innerText.includes('was up, timed_out')");
    browser.wait(&format!("{hung}.querySelector('.spark path.bad')"));
    let pictures = Path::new(env!("CARGO_TARGET_TMPDIR"));
    browser.screenshot(&pictures.join("status-page.png"));

    disks.release(1, Release::Data).expect("released");
    disks.recover(1).expect("recovered");
    browser.wait(&format!("{hung}.dataset.state === 'up'"));
    browser.script("const q = document.getElementById('q'); q.value = 'database'; q.dispatchEvent(new Event('input', {bubbles: true}))");
    browser.wait("document.querySelectorAll('#paths tr[data-key]').length === 2");
    assert_eq!(browser.script("return window.here"), "still");
    assert_eq!(browser.complaints(), Vec::<String>::new());

    assert!(daemon.run(&["stop"]).status.success());
    daemon.wait_end();
    browser.wait(
        "document.getElementById('liveness').innerText.includes('no answer from the daemon')",
    );
}

/// The graphs have data at once, and nothing is cut on a small screen.
#[test]
fn a_small_screen_shows_everything_and_graphs_start_with_data() {
    let browser = match Browser::start() {
        Ok(browser) => browser,
        Err(reason) => return report_skip(&reason),
    };
    let file = plain_file(1 << 16);
    let missing = format!("/nowhere/{}", "x".repeat(80));
    let daemon = Daemon::spawn(
        &[file.path(), Path::new(&missing)],
        &["--interval", "20ms", "--http", "0"],
    );
    let web = Web::tcp(&daemon);
    let Web::Tcp(address) = &web else {
        unreachable!("it was asked for")
    };
    let name = file.path().to_str().expect("text");
    let checked =
        |path: &Value| path["path"] == name && path["checks"]["good"].as_u64() >= Some(40);
    let begin = Instant::now();
    while !daemon.status()["paths"]
        .as_array()
        .expect("a list")
        .iter()
        .any(checked)
    {
        assert!(begin.elapsed() < PATIENCE, "40 checks");
    }
    let page = web.get("/").body;
    let recent = page.split("data-us=\"").nth(1).expect("latencies");
    let recent = recent.split('"').next().expect("an end").split(' ').count();
    assert!((40..=60).contains(&recent), "{recent}");
    for width in [420, 700, 1280] {
        browser.resize(width, 1600);
        browser.open(&format!("http://{address}/"));
        // The page itself has had no time to collect data.
        let points = browser
            .script("return document.querySelector('.spark polyline').getAttribute('points')");
        let points = points.as_str().expect("a line").split(' ').count();
        assert!((40..=60).contains(&points), "{points}");
        let cut = browser.script(
            "return Array.from(document.querySelectorAll('#paths th, #paths td, #events li *, main, html'))
                 .filter((box) => box.offsetParent && getComputedStyle(box.parentElement.parentElement).position !== 'absolute')
                 .filter((box) => box.clientWidth > 0 && box.scrollWidth > box.clientWidth)
                 .concat(document.documentElement.scrollWidth > innerWidth ? [document.body] : [])
                 .map((box) => box.outerHTML)",
        );
        assert_eq!(cut, serde_json::json!([]), "at {width}");
        let stretched = browser.script(
            "return Array.from(document.querySelectorAll('#events .state'))
                 .some((pill) => pill.getBoundingClientRect().width > 150)",
        );
        assert_eq!(stretched, false, "at {width}");
        let text = browser.script("return document.getElementById('paths').innerText");
        let text = text.as_str().expect("text");
        assert!(text.contains("s ago") && text.contains(&missing), "{text}");
    }
}
