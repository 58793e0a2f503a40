//! servers/relay
