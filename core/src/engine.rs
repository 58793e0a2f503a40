//! The engine.

pub mod ingest;
