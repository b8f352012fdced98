//! `[limits]`: caps and rates of the doors. Every default is a bound: there is no way to write "unlimited".

use std::time::Duration;

use super::reader::Section;

/// Caps and rates of the doors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// `body`: most bytes of a request's body. Default: `2MiB`.
    pub body: u64,
    /// `media`: most bytes of one file fetched from a provider; parts of a mail may be as large as the mail. Default: `64MiB`.
    pub media: u64,
    /// `mail`: most bytes of one mail; a larger one stays in its mailbox, and is quarantined with that reason, or is refused
    /// where it comes in a request. Default: `50MiB`.
    pub mail: u64,
    /// `headers`: most bytes of a request's head. Default: `32KiB`.
    pub headers: u64,
    /// `in_flight`: most requests worked on at once; beyond it the overload answer is given. Default: 1024.
    pub in_flight: u32,
    /// `connections`: most connections open at once, over all doors. Default: 10000.
    pub connections: u32,
    /// `per_peer_per_second`: most requests a second from one address (one /64 of IPv6). Providers send from few
    /// addresses, so this only stops floods. Default: 2000.
    pub per_peer_per_second: u32,
    /// `per_channel_per_second`: most requests a second to one channel. Default: 5000.
    pub per_channel_per_second: u32,
    /// `header_timeout`: how long a request's head may take to arrive. Default: `10s`.
    pub header_timeout: Duration,
    /// `body_timeout`: how long a request's body may take to arrive. Default: `30s`.
    pub body_timeout: Duration,
    /// `idle_timeout`: how long a connection may rest between two requests. Default: `60s`.
    pub idle_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            body: 2 << 20,
            media: 64 << 20,
            mail: 50 << 20,
            headers: 32 << 10,
            in_flight: 1024,
            connections: 10_000,
            per_peer_per_second: 2000,
            per_channel_per_second: 5000,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(60),
        }
    }
}

impl Limits {
    /// Reads the table.
    pub(super) fn read(section: Section<'_>) -> Self {
        let default = Limits::default();
        let size = |key, least, most, or| section.get(key).and_then(|f| f.size(least..=most)).unwrap_or(or);
        let count = |key, most: u32, or: u32| {
            let value = section.get(key).and_then(|f| f.integer(1..=u64::from(most)));
            value.and_then(|value| u32::try_from(value).ok()).unwrap_or(or)
        };
        let time = |key, or| {
            let range = Duration::from_millis(100)..=Duration::from_secs(600);
            section.get(key).and_then(|f| f.duration(range)).unwrap_or(or)
        };
        let limits = Limits {
            body: size("body", 1 << 10, 256 << 20, default.body),
            media: size("media", 1 << 10, 4 << 30, default.media),
            mail: size("mail", 64 << 10, 256 << 20, default.mail),
            headers: size("headers", 1 << 10, 1 << 20, default.headers),
            in_flight: count("in_flight", 1_000_000, default.in_flight),
            connections: count("connections", 1_000_000, default.connections),
            per_peer_per_second: count("per_peer_per_second", 10_000_000, default.per_peer_per_second),
            per_channel_per_second: count("per_channel_per_second", 10_000_000, default.per_channel_per_second),
            header_timeout: time("header_timeout", default.header_timeout),
            body_timeout: time("body_timeout", default.body_timeout),
            idle_timeout: time("idle_timeout", default.idle_timeout),
        };
        section.finish();
        limits
    }
}
