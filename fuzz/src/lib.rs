//! Fuzz targets: one function per kind of foreign bytes.
//!
//! Every target takes any bytes and must come back: no panic, no overflow (debug assertions are on), no endless
//! loop. Beyond that each asserts what holds for whatever was accepted: what is decoded is encoded to the same bytes,
//! and two readers of the same bytes agree.
//!
//! Random bytes rarely get past a signature or a seal. So an input's first byte picks what the rest means: the bytes
//! themselves, or edits of a valid example ([`edit`]); and targets behind a seal seal their input themselves.

pub mod directory;
mod edit;
pub mod onion;
pub mod ops;
pub mod sync;

#[allow(dead_code, unreachable_pub, missing_docs, reason = "shared with core's tests, which use the rest")]
#[path = "../../core/tests/onion/support.rs"]
mod support;

/// A fuzz target: its name and what to call with any bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All targets. Each has a test of its name in `tests/targets.rs`.
pub const TARGETS: [Target; 17] = [
    ("v3_packet", onion::v3_packet),
    ("v3_slot", onion::v3_slot),
    ("v3_route", onion::v3_route),
    ("v2_packet", onion::v2_packet),
    ("sealed_sender", onion::sealed_sender),
    ("deliver_content", onion::deliver_content),
    ("node_record", directory::node_record),
    ("directory_list", directory::directory_list),
    ("node_url", directory::node_url),
    ("stored_memory", directory::stored_memory),
    ("frame", sync::frame),
    ("client_message", sync::client_message),
    ("envelope", ops::envelope),
    ("header", ops::header),
    ("signed_header", ops::signed_header),
    ("body", ops::body),
    ("ticket", ops::ticket),
];
