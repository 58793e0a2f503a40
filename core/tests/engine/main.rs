//! The engine as its driver sees it: inputs in, outputs out, a small server of the test's own in between.

#![cfg(feature = "device")]

mod accountability;
mod blobs;
mod direct;
mod exchange;
mod gone;
mod handovers;
mod inbox;
mod keeping;
mod lifecycle;
mod looks;
mod net;
mod outbox;
mod records;
mod refetch;
mod rotation;
mod sending;
mod signals;
mod spaces;
mod stuck;
mod support;
mod threads;
mod tunnels;
mod unanswered;
mod values;
