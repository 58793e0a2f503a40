//! A few whole runs, so that plain `cargo test` sees the simulation at work. CI and `cargo xtask sim` run more.

use delta_sim::{Config, Fault, Summary, run};

/// Worlds tried until one has the trouble a test is about.
const SEEDS: u64 = 40;

fn play(config: &Config) -> Summary {
    run(config, false).unwrap_or_else(|failure| panic!("{failure}"))
}

#[test]
fn without_trouble_every_world_converges() {
    let mut config = Config::new(1, 60);
    config.allowed.clear();
    let summary = play(&config);
    assert!(summary.operations > 20, "{summary:?}");
    assert_eq!(summary.faults, "none");
}

#[test]
fn a_seed_repeats_event_by_event() {
    let config = Config::new(3, 60);
    assert_eq!(play(&config), play(&config));
    assert_ne!(play(&config).fingerprint, play(&Config::new(4, 60)).fingerprint);
}

/// The first world of these kinds in which the wanted ones all strike: a run draws only some of what it may have.
fn play_with(allowed: &[Fault], wanted: &[Fault]) -> Summary {
    play_until(wanted, |seed| Config { allowed: allowed.to_vec(), ..Config::new(seed, 80) })
}

fn play_until(wanted: &[Fault], world: impl Fn(u64) -> Config) -> Summary {
    for seed in 1..=SEEDS {
        let config = world(seed);
        let summary = play(&config);
        let names: Vec<_> = summary.faults.split(", ").filter_map(|fault| fault.split(' ').next()).collect();
        if wanted.iter().all(|fault| names.contains(&fault.label())) {
            return summary;
        }
    }
    panic!("{wanted:?} do not strike together in {SEEDS} worlds");
}

#[test]
fn case_40_a_device_killed_at_any_place_loses_and_doubles_nothing() {
    play_with(&[Fault::DeviceCrash, Fault::PowerLoss, Fault::Loss], &[Fault::DeviceCrash, Fault::PowerLoss]);
}

#[test]
fn case_37_what_no_relay_delivers_stays_queued_across_restarts_and_comes_once() {
    let kinds = [Fault::RelayCrash, Fault::BadRelay, Fault::DeviceCrash];
    play_with(&kinds, &kinds);
}

#[test]
fn case_51_a_wiped_server_gets_everything_back_once() {
    play_with(&[Fault::ServerWipe, Fault::ServerCrash], &[Fault::ServerWipe]);
}

#[test]
fn case_50_what_a_server_evicts_is_no_loss() {
    play_with(&[Fault::Eviction, Fault::ServerRollback], &[Fault::Eviction]);
}

/// What a summary names has happened: without a backup there is no rollback, with nothing to cut no cut.
#[test]
fn a_fault_without_effect_is_not_counted() {
    for seed in 1..=SEEDS {
        let mut config = Config::new(seed, 1);
        config.allowed =
            vec![Fault::ServerRollback, Fault::Eviction, Fault::Cut, Fault::BadServer, Fault::BadRelay];
        let summary = play(&config);
        // One step: the devices may have sockets, the server has nothing yet.
        let counted: Vec<_> = summary.faults.split(", ").filter(|fault| !fault.starts_with("cut ")).collect();
        assert!(counted.is_empty() || counted == ["none"], "seed {seed}: {}", summary.faults);
    }
}

/// A commit that fails takes everything of its batch back, and what was refused does not exist.
#[test]
fn case_64_a_full_disk_loses_nothing_that_was_acknowledged() {
    play_with(&[Fault::DiskFull, Fault::DeviceCrash, Fault::Loss], &[Fault::DiskFull, Fault::DeviceCrash]);
}

#[test]
fn a_clock_that_is_set_and_a_device_that_sleeps_lose_nothing() {
    let kinds = [Fault::Clock, Fault::Sleep, Fault::DeviceCrash, Fault::Loss];
    play_with(&kinds, &[Fault::Clock, Fault::Sleep]);
}

#[test]
fn a_busy_server_gets_the_pause_it_asks_for() {
    play_with(&[Fault::Busy, Fault::Cut], &[Fault::Busy, Fault::Cut]);
}

/// The device looks through a tunnel before it sends again, and finds its operation in the log.
#[test]
fn case_38_an_echo_kept_back_from_its_sender_is_found_by_a_look() {
    play_with(&[Fault::Withhold], &[Fault::Withhold]);
}

#[test]
fn what_apps_take_back_is_gone_or_deleted_and_forks_nobodys_log() {
    play_with(
        &[Fault::PowerLoss, Fault::DeviceCrash, Fault::Partition],
        &[Fault::PowerLoss, Fault::Partition],
    );
}

#[test]
fn cover_and_delays_lose_and_double_nothing() {
    play_with(&[Fault::Private, Fault::Loss, Fault::DeviceCrash], &[Fault::Private, Fault::Loss]);
}

/// People come, speak, are removed and come again; who must read reads, and who must not holds no key.
#[test]
fn in_a_town_all_agree_on_who_is_there_and_read_what_they_should() {
    for seed in 1..=4 {
        let mut config = Config::town(seed, 40);
        config.allowed.clear();
        let summary = play(&config);
        assert!(summary.operations > 0, "{summary:?}");
    }
}

/// People come and go while the network is parted and devices stop: in the end all agree all the same.
#[test]
fn in_a_town_that_is_parted_all_agree_in_the_end() {
    let kinds = [Fault::Partition, Fault::DeviceCrash];
    let struck = play_until(&kinds, |seed| Config { allowed: kinds.to_vec(), ..Config::town(seed, 40) });
    assert!(struck.operations > 0, "{struck:?}");
}

#[test]
fn a_town_repeats_event_by_event() {
    let mut config = Config::town(2, 30);
    config.allowed = vec![Fault::Loss, Fault::Partition, Fault::DeviceCrash];
    assert_eq!(
        run(&config, false).map_err(|failure| failure.fingerprint),
        run(&config, false).map_err(|failure| failure.fingerprint)
    );
}
