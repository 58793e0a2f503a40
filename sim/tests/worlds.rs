//! A few whole runs, so that plain `cargo test` sees the simulation at work. CI and `cargo xtask sim` run more.

use delta_sim::{Config, Fault, Summary, run};

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

#[test]
fn case_40_a_device_killed_at_any_place_loses_and_doubles_nothing() {
    let mut config = Config::new(5, 80);
    config.allowed = vec![Fault::DeviceCrash, Fault::PowerLoss, Fault::Loss];
    assert!(play(&config).faults.contains("device-crash"));
}

#[test]
fn case_37_what_no_relay_delivers_stays_queued_across_restarts_and_comes_once() {
    let mut config = Config::new(12, 80);
    config.allowed = vec![Fault::RelayCrash, Fault::BadRelay, Fault::DeviceCrash];
    play(&config);
}

#[test]
fn case_51_a_wiped_server_gets_everything_back_once() {
    let mut config = Config::new(4, 80);
    config.allowed = vec![Fault::ServerWipe, Fault::ServerCrash];
    assert!(play(&config).faults.contains("server-wipe"));
}
