//! What one client, one topic or the whole server may use: `--limit name=value`, 0 for no limit.

delta_server_shell::limits! {
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
    /// Topics with operations. Operations of a further one are dropped, or get 503.
    topics = 1_000_000;
    /// Bytes of a message a subscriber may send. Above it the socket is closed.
    frame_bytes = 64 * 1024;
    /// Connections at once, over all addresses. Above it: 503.
    connections = 65_536;
    /// Bytes of packets and operations on their way to the disk. Above it: 503.
    bytes_in_flight = 64 * 1024 * 1024;
    /// Bytes of deliveries still on their way from one address, one of any size at least. Above it: 503.
    upload_bytes_per_address = 4 * 1024 * 1024;
    /// Bytes of history and search answers on their way to one address, one of any size at least. Above it: 503.
    download_bytes_per_address = 16 * 1024 * 1024;
    /// Bytes of such answers on their way to all. Above it: 503.
    download_bytes = 256 * 1024 * 1024;
    /// Questions about topics (`ops`, `has`, `head`, `about`) per second of one address. Above it: 429.
    reads_per_second_per_address = 200;
    /// Size of the database file. Above it deliveries get 503, as with a full disk.
    database_bytes = 0;
    /// Room left on the disk below which deliveries get 503, so that the server ends no worse than full.
    disk_free_bytes = 256 * 1024 * 1024;
}

#[cfg(test)]
mod tests {
    use delta_server_shell::limits::LimitError;

    use super::*;

    #[test]
    fn limits_are_set_by_name_and_the_defaults_are_the_documented_ones() {
        let mut limits = Limits::default();
        assert_eq!(limits.connections_per_address, 1024);
        assert_eq!(limits.subscribes_per_second_per_address, 200);
        assert_eq!(limits.searches_per_second_per_address, 20);
        assert_eq!(limits.deliveries_per_topic_per_minute, 60_000);
        assert_eq!((limits.bytes_in_flight, limits.upload_bytes_per_address), (67_108_864, 4_194_304));
        assert_eq!((limits.signals_per_topic_per_minute, limits.disk_free_bytes), (6_000, 268_435_456));
        assert_eq!((limits.topics, limits.frame_bytes), (1_000_000, 65_536));
        assert_eq!((limits.download_bytes, limits.download_bytes_per_address), (268_435_456, 16_777_216));
        assert_eq!(limits.reads_per_second_per_address, 200);
        assert_eq!((limits.connections, limits.database_bytes), (65_536, 0));
        assert_eq!((limits.bytes_per_topic, limits.ops_per_topic, limits.max_age_days), (0, 0, 0));
        limits.set(&"ops_per_topic=5".parse().unwrap());
        assert_eq!(limits.ops_per_topic, 5);
        assert!(matches!("nothing=1".parse::<LimitOption>(), Err(LimitError::Name(_))));
        for bad in ["ops_per_topic", "ops_per_topic=", "ops_per_topic=-1", "ops_per_topic=x"] {
            assert_eq!(bad.parse::<LimitOption>(), Err(LimitError::Form), "{bad}");
        }
    }
}
