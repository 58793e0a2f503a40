//! What one client, one topic or the whole server may use: `--limit name=value`, 0 for no limit.

use std::str::FromStr;

use thiserror::Error;

macro_rules! limits {
    ($($(#[doc = $doc:literal])* $name:ident = $default:expr;)*) => {
        /// Every limit an operator can set.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct Limits {
            $($(#[doc = $doc])* pub $name: u64,)*
        }

        impl Default for Limits {
            fn default() -> Self {
                Self { $($name: $default,)* }
            }
        }

        impl Limits {
            /// Sets one limit.
            pub fn set(&mut self, limit: &LimitOption) {
                match limit.name {
                    $(stringify!($name) => self.$name = limit.value,)*
                    _ => {}
                }
            }

            /// Names and values, in the order of the documentation.
            pub fn list(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)*]
            }

            const NAMES: &'static [&'static str] = &[$(stringify!($name),)*];
        }
    };
}

limits! {
    /// Open connections of one address (IPv6: one /64). Above it: 429.
    connections_per_address = 1024;
    /// Subscribe requests per second of one address. Above it: 429.
    subscribes_per_second_per_address = 200;
    /// Searches per second of one address. Above it: 429.
    searches_per_second_per_address = 20;
    /// Operations accepted per topic and minute, signed and unsigned ones counted apart. Above it: dropped, or 429.
    deliveries_per_topic_per_minute = 60_000;
    /// Signals passed on per topic and minute. Above it: dropped.
    signals_per_topic_per_minute = 6_000;
    /// Bytes of operations kept per topic; the oldest are evicted.
    bytes_per_topic = 0;
    /// Operations kept per topic; the oldest are evicted.
    ops_per_topic = 0;
    /// Days operations are kept; older ones are evicted.
    max_age_days = 0;
    /// Connections at once, over all addresses. Above it: 503.
    connections = 65_536;
    /// Bytes of packets and operations on their way to the disk. Above it: 503.
    bytes_in_flight = 64 * 1024 * 1024;
    /// Size of the database file. Above it deliveries get 503, as with a full disk.
    database_bytes = 0;
    /// Room left on the disk below which deliveries get 503, so that the server ends no worse than full.
    disk_free_bytes = 64 * 1024 * 1024;
}

/// One `name=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitOption {
    name: &'static str,
    value: u64,
}

/// A limit option is wrong. The operator is at fault.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LimitError {
    /// Not `name=value` with a whole number.
    #[error("expected name=value with a whole number, 0 for no limit")]
    Form,
    /// There is no such limit.
    #[error("there is no limit of that name; there are: {}", Limits::NAMES.join(", "))]
    Name,
}

impl FromStr for LimitOption {
    type Err = LimitError;
    fn from_str(text: &str) -> Result<Self, LimitError> {
        let (name, value) = text.split_once('=').ok_or(LimitError::Form)?;
        let known = Limits::NAMES.iter().find(|known| **known == name.trim()).ok_or(LimitError::Name)?;
        Ok(Self { name: known, value: value.trim().parse().map_err(|_| LimitError::Form)? })
    }
}

/// `limit` as a bound on a count: 0 means none.
pub const fn bound(limit: u64) -> u64 {
    if limit == 0 { u64::MAX } else { limit }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_set_by_name_and_the_defaults_are_the_documented_ones() {
        let mut limits = Limits::default();
        assert_eq!(limits.connections_per_address, 1024);
        assert_eq!(limits.subscribes_per_second_per_address, 200);
        assert_eq!(limits.searches_per_second_per_address, 20);
        assert_eq!(limits.deliveries_per_topic_per_minute, 60_000);
        assert_eq!((limits.signals_per_topic_per_minute, limits.disk_free_bytes), (6_000, 67_108_864));
        assert_eq!((limits.bytes_per_topic, limits.ops_per_topic, limits.max_age_days), (0, 0, 0));
        limits.set(&"ops_per_topic=5".parse().unwrap());
        assert_eq!(limits.ops_per_topic, 5);
        assert_eq!("nothing=1".parse::<LimitOption>(), Err(LimitError::Name));
        for bad in ["ops_per_topic", "ops_per_topic=", "ops_per_topic=-1", "ops_per_topic=x"] {
            assert_eq!(bad.parse::<LimitOption>(), Err(LimitError::Form), "{bad}");
        }
        assert_eq!(bound(0), u64::MAX);
    }
}
