//! servers/topic-log
