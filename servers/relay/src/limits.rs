//! What one address or the whole relay may use: `--limit name=value`, 0 for no limit.

delta_server_shell::limits! {
    /// Open connections of one address (IPv6: one /64). Above it: 429.
    connections_per_address = 1024;
    /// Connections at once, over all addresses. Above it: 503.
    connections = 16_384;
    /// Requests per second of one address. Above it: 429. Other relays are addresses, too.
    requests_per_second_per_address = 5_000;
    /// Bytes of bodies still on their way from one address, one of any class at least: a small part of what all may
    /// hold, so that a few slow addresses do not keep out the rest. Above it: 503.
    upload_bytes_per_address = 4 * 1024 * 1024;
    /// Tunnels of one address. Above it: 429.
    tunnels_per_address = 256;
    /// Tunnels at once. Above it: 503.
    tunnels = 8_192;
    /// Bytes per second in one tunnel, each way. Above it the tunnel waits.
    tunnel_bytes_per_second = 8 * 1024 * 1024;
    /// Tags remembered per onion key. Above it: 503 until the key rotates.
    replay_tags = delta_server_shell::keys::REPLAY_CAPACITY as u64;
    /// Packets of version 2 remembered in all, because their key never changes. Above it: 503 until it is raised.
    v2_replay_tags = delta_server_shell::keys::REPLAY_CAPACITY as u64;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_set_by_name_and_the_defaults_are_the_documented_ones() {
        let mut limits = Limits::default();
        assert_eq!((limits.connections_per_address, limits.connections), (1024, 16_384));
        assert_eq!((limits.tunnels_per_address, limits.tunnels), (256, 8_192));
        assert_eq!(limits.upload_bytes_per_address, 4_194_304);
        assert_eq!(limits.tunnel_bytes_per_second, 8_388_608);
        assert_eq!((limits.replay_tags, limits.v2_replay_tags), (32_000_000, 32_000_000));
        limits.set(&"requests_per_second_per_address=0".parse().unwrap());
        assert_eq!(limits.requests_per_second_per_address, 0);
        assert!("colour=1".parse::<LimitOption>().unwrap_err().to_string().contains("tunnels_per_address"));
    }
}
