//! Runs the fuzz targets: as property tests on any compiler, as campaigns under `cargo bolero` (see README.md).

use delta_fuzz::{directory, onion, ops, sync};

/// Longest input, bytes: examples are edited, so short inputs say much.
const MAX_LEN: usize = 4096;

#[test]
fn v3_packet() {
    bolero::check!().with_max_len(MAX_LEN).for_each(onion::v3_packet);
}

#[test]
fn v3_slot() {
    bolero::check!().with_max_len(MAX_LEN).for_each(onion::v3_slot);
}

#[test]
fn v3_route() {
    bolero::check!().with_max_len(MAX_LEN).for_each(onion::v3_route);
}

#[test]
fn v2_packet() {
    bolero::check!().with_max_len(MAX_LEN).for_each(onion::v2_packet);
}

#[test]
fn sealed_sender() {
    bolero::check!().with_max_len(MAX_LEN).for_each(onion::sealed_sender);
}

#[test]
fn deliver_content() {
    bolero::check!().with_max_len(MAX_LEN).for_each(onion::deliver_content);
}

#[test]
fn node_record() {
    bolero::check!().with_max_len(MAX_LEN).for_each(directory::node_record);
}

#[test]
fn directory_list() {
    bolero::check!().with_max_len(MAX_LEN).for_each(directory::directory_list);
}

#[test]
fn node_url() {
    bolero::check!().with_max_len(MAX_LEN).for_each(directory::node_url);
}

#[test]
fn stored_memory() {
    bolero::check!().with_max_len(MAX_LEN).for_each(directory::stored_memory);
}

#[test]
fn frame() {
    bolero::check!().with_max_len(MAX_LEN).for_each(sync::frame);
}

#[test]
fn client_message() {
    bolero::check!().with_max_len(MAX_LEN).for_each(sync::client_message);
}

#[test]
fn envelope() {
    bolero::check!().with_max_len(MAX_LEN).for_each(ops::envelope);
}

#[test]
fn header() {
    bolero::check!().with_max_len(MAX_LEN).for_each(ops::header);
}

#[test]
fn signed_header() {
    bolero::check!().with_max_len(MAX_LEN).for_each(ops::signed_header);
}

#[test]
fn body() {
    bolero::check!().with_max_len(MAX_LEN).for_each(ops::body);
}

#[test]
fn ticket() {
    bolero::check!().with_max_len(MAX_LEN).for_each(ops::ticket);
}

/// A target without a test is never run.
#[test]
fn every_target_has_a_test() {
    let source = include_str!("targets.rs");
    for (name, _) in delta_fuzz::TARGETS {
        assert!(source.contains(&format!("fn {name}()")), "{name}");
    }
}
