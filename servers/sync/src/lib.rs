//! servers/sync
