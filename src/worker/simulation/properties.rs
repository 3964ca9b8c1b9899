//! Properties of a worker: what must make no difference, and what must make one.

use fastrand::Rng;

use super::world::{World, any_settings};
use super::*;
use crate::health::{Rules, VerdictKind};
use crate::settings::Sleeping;
use crate::status::Counts;

/// A world of many paths in two groups, whose completions are shuffled or not.
fn crowd(seed: u64, shuffled: Option<u64>) -> World {
    let mut world = World::new(seed);
    let interval = Duration::from_secs(1);
    for nth in 0..20 {
        let group = [None, Some("a"), Some("b")][nth % 3];
        let settings = Settings {
            interval,
            ..any_settings(&mut world.rng)
        };
        let way = Way::any(&mut world.rng);
        world.add(way, group, settings);
    }
    world.worker.checker.recorder.shuffling = shuffled.map(Rng::with_seed);
    world
}

/// All that is known of the paths and that readers may see.
fn picture(world: &World) -> Vec<String> {
    let ids = world.ids().into_iter();
    let path = |id| {
        let path = world.watched(id);
        let (state, cause) = path.judged();
        let median_us = path.median_us;
        format!(
            "{id:?} {state} {cause:?} {median_us:?} {:?} {:?}",
            path.health, path.due
        )
    };
    ids.map(path).collect()
}

#[test]
fn the_order_of_the_completions_of_a_slot_changes_no_state() {
    let mut batches = 0;
    for seed in 0..60 {
        let (mut plain, mut shuffled) = (crowd(seed, None), crowd(seed, Some(seed + 1)));
        let end = plain.worker.now() + Duration::from_secs(60);
        let mut ticks = 0u64;
        while plain.worker.now() < end {
            ticks += 1;
            if ticks.is_multiple_of(10) {
                let ids = plain.ids();
                let id = ids[plain.rng.usize(0..ids.len())];
                let way = Way::any(&mut plain.rng);
                plain.cells[&id].1.set(way);
                shuffled.cells[&id].1.set(way);
            }
            let before = plain.worker.checker.recorder.checks;
            plain.worker.tick();
            shuffled.worker.tick();
            batches += u32::from(plain.worker.checker.recorder.checks > before + 1);
            let (one, other) = (picture(&plain), picture(&shuffled));
            assert_eq!(one, other, "seed {seed}, tick {ticks}");
        }
    }
    assert!(
        batches > 1_000,
        "only {batches} slots had more than one verdict"
    );
}

#[test]
fn a_jump_of_the_clock_condemns_no_disk_that_answers() {
    let mut jumps = 0;
    for seed in 0..200 {
        let mut world = World::new(seed);
        for nth in 0..6 {
            let group = [None, Some("a")][nth % 2];
            let settings = Settings {
                timeout: TIMEOUT,
                ..any_settings(&mut world.rng)
            };
            let way = *world
                .rng
                .choice(&[Way::Answers, Way::Sluggish, Way::Full(true)])
                .expect("some");
            world.add(way, group, settings);
        }
        for _ in 0..30 {
            let calm = Duration::from_millis(world.rng.u64(2_100..6_000));
            world.run(calm, false);
            let jump = [1, 500, 1_500, 60_000, 3_600_000][world.rng.usize(0..5)];
            world.jump.set(Duration::from_millis(jump));
            world.worker.tick();
            jumps += 1;
        }
        world.run(Duration::from_secs(10), false);
        world.assert_invariants();
        for (_, at, verdict, _) in &world.worker.checker.recorder.verdicts {
            assert!(!verdict.is_bad(), "seed {seed}: {verdict:?} at {at}");
        }
    }
    assert!(jumps > 5_000);
}

#[test]
fn a_disk_that_hangs_is_found_after_a_jump_too() {
    let mut world = World::new(3);
    let id = world.add(Way::Hangs, None, Settings::default());
    world.jump.set(Duration::from_secs(3600));
    world.worker.tick();
    assert_eq!(world.watched(id).shown, State::Pending);
    world.run(
        TIMEOUT + Settings::default().interval + Duration::from_millis(200),
        false,
    );
    assert_eq!(world.watched(id).shown, State::Down);
}

#[test]
fn a_leg_in_standby_is_never_down_and_is_read_again_at_once_when_it_is_active() {
    let mut world = World::new(4);
    let leg = world.add(Way::Answers, Some("a"), Settings::default());
    for _ in 0..50 {
        for way in [Way::Standby, Way::Answers] {
            let span = Duration::from_millis(world.rng.u64(2_100..9_000));
            world.cells[&leg].1.set(way);
            world.run(span, false);
            let expected = match way {
                Way::Standby => State::Standby,
                _ => State::Up,
            };
            assert_eq!(world.watched(leg).shown, expected);
        }
    }
    let events = world.worker.checker.recorder.events.iter();
    assert!(events.clone().count() > 90);
    assert!(
        events
            .map(|(_, event)| event.to)
            .all(|state| state != State::Down)
    );
}

#[test]
fn a_path_that_is_much_slower_than_its_peers_is_marginal_until_it_is_not() {
    let mut world = World::new(5);
    let settings = Settings::default();
    let quick = world.add(Way::Answers, Some("a"), settings);
    world.add(Way::Answers, Some("a"), settings);
    let slow = world.add(Way::Sluggish, Some("a"), settings);
    let alone = world.add(Way::Sluggish, None, settings);
    world.run(Duration::from_secs(100), false);
    let state = |world: &World, id| (world.watched(id).shown, world.watched(id).judged().1);
    assert_eq!(state(&world, slow), (State::Marginal, Cause::Slow));
    assert_eq!(world.watched(quick).shown, State::Up);
    assert_eq!(world.watched(alone).shown, State::Up);
    world.cells[&slow].1.set(Way::Answers);
    world.run(Duration::from_secs(200), false);
    assert_eq!(world.watched(slow).shown, State::Up);
    world.assert_invariants();
}

#[test]
fn the_last_path_that_works_is_up_whatever_its_impairments() {
    let mut world = World::new(6);
    let rules = Rules {
        flaps: 1,
        rise: 1,
        ..Rules::default()
    };
    let settings = Settings {
        rules,
        ..Settings::default()
    };
    let flapping = world.add(Way::Answers, Some("a"), settings);
    let steady = world.add(Way::Answers, Some("a"), settings);
    for _ in 0..2 {
        world.cells[&flapping].1.set(Way::Fails(Errno::EIO));
        world.run(Duration::from_secs(4), false);
        world.cells[&flapping].1.set(Way::Answers);
        world.run(Duration::from_secs(4), false);
    }
    let judged = |world: &World| world.watched(flapping).judged();
    assert_eq!(judged(&world), (State::Marginal, Cause::Flapping));
    world.cells[&steady].1.set(Way::Hangs);
    world.run(Duration::from_secs(6), false);
    assert_eq!(world.watched(steady).shown, State::Down);
    assert_eq!(judged(&world), (State::Up, Cause::LastUsable));
    let last = world
        .worker
        .checker
        .recorder
        .events
        .last()
        .expect("some")
        .1
        .clone();
    assert_eq!((last.from, last.to), (State::Marginal, State::Up));
    assert_eq!(last.detail, "flapping, but no peer is up");
    // Alone in its group it stays so; with a new peer it is marginal again.
    world.remove(steady);
    world.run(Duration::from_secs(4), false);
    assert_eq!(judged(&world), (State::Up, Cause::LastUsable));
    world.add(Way::Answers, Some("a"), settings);
    world.run(Duration::from_secs(4), false);
    assert_eq!(judged(&world), (State::Marginal, Cause::Flapping));
    world.run(Duration::from_secs(70), false);
    assert_eq!(
        world.watched(flapping).shown,
        State::Up,
        "after its recovery"
    );
}

#[test]
fn what_is_down_for_long_is_asked_less_often_and_what_is_suspicious_more_often() {
    let mut world = World::new(8);
    let settings = Settings {
        interval: Duration::from_secs(1),
        ..Settings::default()
    };
    let dead = world.add(Way::Fails(Errno::EIO), None, settings);
    world.run(Duration::from_secs(3600), false);
    let checks = world.watched(dead).checks_begun;
    // Every second for 32 s, then at a 32nd of the time so far until that is 30 s, at 960 s.
    assert!((180..=260).contains(&checks), "{checks}");
    world.cells[&dead].1.set(Way::Answers);
    let back = world.worker.now();
    world.run(Duration::from_secs(33), false);
    assert_eq!(world.watched(dead).shown, State::Up);
    let verdicts = world.worker.checker.recorder.verdicts.iter();
    let mut good = verdicts
        .filter(|v| v.1 > back && !v.2.is_bad())
        .map(|v| v.1);
    let (first, second) = (good.next().expect("one"), good.next().expect("two"));
    assert!(
        second.since(first) < Duration::from_millis(400),
        "{first} {second}"
    );
    let off = Settings {
        backoff_max: Duration::ZERO,
        ..settings
    };
    let (mut world, from) = (World::new(9), 3600);
    let dead = world.add(Way::Fails(Errno::EIO), None, off);
    world.run(Duration::from_secs(from), false);
    assert!(
        world.watched(dead).checks_begun.abs_diff(3600) < 5,
        "every second"
    );
}

#[test]
fn a_device_that_says_eopnotsupp_is_not_read_without_nowait_for_ever() {
    let mut world = World::new(10);
    let disk = world.add(Way::Fails(Errno::EOPNOTSUPP), None, Settings::default());
    world.run(Duration::from_secs(4), false);
    assert_eq!(world.watched(disk).nowait, Nowait::Unsupported);
    assert_eq!(world.watched(disk).shown, State::Down);
    world.cells[&disk].1.set(Way::Answers);
    world.run(Duration::from_secs(130), false);
    assert_eq!(world.watched(disk).nowait, Nowait::Works);
    assert_eq!(world.worker.checker.blocking, 0);
}

#[test]
fn a_machine_that_is_paused_with_a_read_in_flight_takes_nothing_down() {
    // The next check is long after the deadline, so that only the deadline in flight shows the gap.
    let settings = Settings {
        interval: Duration::from_secs(5),
        ..Settings::default()
    };
    for seed in 0..100 {
        let mut world = World::new(seed);
        let id = world.add(Way::Slow, None, settings);
        world.run(Duration::from_secs(60), false);
        for _ in 0..20 {
            world.worker.handle(WorkerMsg::CheckNow(id));
            world
                .jump
                .set(Duration::from_millis(world.rng.u64(2_300..9_000)));
            world.worker.tick();
            world.run(Duration::from_secs(6), false);
            assert_eq!(world.watched(id).shown, State::Up, "seed {seed}");
        }
        let verdicts = &world.worker.checker.recorder.verdicts;
        assert!(
            verdicts.iter().all(|(_, _, verdict, _)| !verdict.is_bad()),
            "seed {seed}"
        );
    }
}

#[test]
fn a_standby_path_whose_state_in_sysfs_is_stale_is_up_once_it_is_read() {
    let mut world = World::new(11);
    let leg = world.add(Way::StaleStandby, None, Settings::default());
    world.run(Duration::from_secs(2 * 18), false);
    assert_eq!(world.watched(leg).shown, State::Up);
    let states: Vec<State> = world
        .worker
        .checker
        .recorder
        .events
        .iter()
        .map(|(_, e)| e.to)
        .collect();
    assert_eq!(
        states,
        [State::Standby, State::Up],
        "and stays, while it answers"
    );
    world.cells[&leg].1.set(Way::Standby);
    world.run(Duration::from_secs(2 * 40), false);
    assert_eq!(world.watched(leg).shown, State::Standby);
    let states = world
        .worker
        .checker
        .recorder
        .events
        .iter()
        .map(|(_, event)| event.to);
    assert!(states.into_iter().all(|state| state != State::Down));
}

#[test]
fn a_mirror_is_never_down_while_a_leg_answers_and_down_in_time_when_none_does() {
    let settings = Settings::default();
    for seed in 0..50 {
        let mut world = World::new(seed);
        let id = world.add(Way::Answers, None, settings);
        world.run(Duration::from_secs(6), false);
        for legs in [(true, false), (false, true), (true, true)] {
            world.cells[&id].1.set(Way::Mirror(legs.0, legs.1));
            world.run(Duration::from_secs(60), false);
            assert_eq!(world.watched(id).shown, State::Up, "seed {seed}: {legs:?}");
        }
        let events = world.worker.checker.recorder.events.iter();
        let mut states = events.map(|(_, event)| event.to);
        assert!(states.all(|state| state != State::Down), "seed {seed}");
        world.cells[&id].1.set(Way::Mirror(false, false));
        let limit = settings.interval + settings.timeout * 2 + Duration::from_millis(300);
        world.run(limit, false);
        assert_eq!(world.watched(id).shown, State::Down, "seed {seed}");
    }
}

#[test]
fn a_map_that_is_suspended_or_lies_on_a_dead_disk_is_down_in_time_and_back_at_once() {
    let settings = Settings::default();
    for seed in 0..50 {
        let mut world = World::new(seed);
        let id = world.add(Way::Linear(true), None, settings);
        world.cells[&id].1.set(Way::Answers);
        world.run(Duration::from_secs(9), false);
        assert_eq!(world.watched(id).shown, State::Up, "seed {seed}");
        for stall in [Way::Suspended, Way::Linear(false)] {
            world.cells[&id].1.set(Way::Linear(true));
            world.run(Duration::from_secs(60), false);
            assert_eq!(world.watched(id).shown, State::Up, "seed {seed}: busy");
            world.cells[&id].1.set(stall);
            let limit = settings.interval + settings.timeout * 2 + Duration::from_millis(300);
            world.run(limit, false);
            assert_eq!(
                world.watched(id).shown,
                State::Down,
                "seed {seed}: {stall:?}"
            );
            world.cells[&id].1.set(Way::Linear(true));
            world.run(Duration::from_secs(60), false);
            assert_eq!(
                world.watched(id).shown,
                State::Down,
                "seed {seed}: busy only"
            );
            world.cells[&id].1.set(Way::Answers);
            world.run(settings.interval * 2, false);
            assert_eq!(world.watched(id).shown, State::Up, "seed {seed}: back");
        }
    }
}

#[test]
fn a_disk_that_sleeps_is_left_alone_if_that_is_wanted_and_its_path_keeps_its_state() {
    for (sleeping, is_left) in [(Sleeping::Leave, true), (Sleeping::Read, false)] {
        let mut world = World::new(13);
        let settings = Settings {
            sleeping,
            ..Settings::default()
        };
        let id = world.add(Way::Answers, None, settings);
        world.run(Duration::from_secs(10), false);
        world.cells[&id].1.set(Way::Asleep);
        // Far longer than a verdict may take to be overdue.
        let before = world.cells[&id].0.snapshot().checks;
        world.run(Duration::from_secs(100), false);
        let status = world.cells[&id].0.snapshot_at(world.worker.now());
        let unknown = |checks: &Counts| checks.of(VerdictKind::Unknown);
        let more = status.checks.total() - before.total();
        assert!(more > 40, "{more}");
        let expected = if is_left { more } else { 0 };
        assert_eq!(unknown(&status.checks) - unknown(&before), expected);
        assert_eq!((status.state, status.overdue), (State::Up, false));
        assert_eq!(status.unknown, is_left.then_some(UnknownReason::Asleep));
        world.cells[&id].1.set(Way::Hangs);
        world.run(Duration::from_secs(5), false);
        assert_eq!(world.watched(id).shown, State::Down, "whoever wakes it");
        world.assert_invariants();
    }
}
