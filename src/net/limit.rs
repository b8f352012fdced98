//! The limits of a listener.
//!
//! Each has a default that a public address can live with. They bound what one peer, or all peers together, can make
//! the listener hold: memory by sizes and counts, time by timeouts.

use std::time::Duration;

/// The limits of one listener.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Bytes of a request's head; more is answered with 431. HTTP/1.1 needs at least 8 KiB. Default 32 KiB.
    pub header_bytes: usize,
    /// Header fields of a request; more are answered with 431. Default 100.
    pub header_count: usize,
    /// From accepting a connection, or from the first byte of a later head, to the end of that head. It covers the TLS
    /// handshake too. Default 10 s.
    pub header_timeout: Duration,
    /// Bytes of a request's body, where the handler names no cap of its own. Default 2 MiB.
    pub body_bytes: usize,
    /// From the first read of a body to its end. Default 30 s.
    pub body_timeout: Duration,
    /// Bytes a second a body must bring on average after `body_grace`. 0 asks for nothing. Default 1 KiB/s.
    pub body_rate: u32,
    /// How long a body may be slower than `body_rate`. Default 5 s.
    pub body_grace: Duration,
    /// How long a connection may be open without a request. Default 60 s.
    pub idle_timeout: Duration,
    /// How long a peer may refuse to take what is written to it. Default 30 s.
    pub write_timeout: Duration,
    /// Open connections. Beyond it, idle ones are closed and new ones wait in the system's queue. Default 10,000.
    pub connections: usize,
    /// Requests being handled. Beyond it a request is marked overloaded, see [`crate::net::Request::overloaded`].
    /// Default 1,024.
    pub requests: usize,
    /// HTTP/2 streams open at once on one connection. Default 128.
    pub h2_streams: u32,
    /// HTTP/2 streams that a peer reset before they were accepted (the rapid reset attack, CVE-2023-44487); more end
    /// the connection. Default 20.
    pub h2_pending_resets: usize,
    /// HTTP/2 streams that we reset because of a peer's mistakes (the MadeYouReset attack, CVE-2025-8671); more end the
    /// connection. Default 1,024.
    pub h2_local_resets: usize,
    /// Silence after which an HTTP/2 peer is pinged. Default 20 s.
    pub h2_ping_interval: Duration,
    /// How long the answer to that ping may take. Default 10 s.
    pub h2_ping_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            header_bytes: 32 * 1024,
            header_count: 100,
            header_timeout: Duration::from_secs(10),
            body_bytes: 2 * 1024 * 1024,
            body_timeout: Duration::from_secs(30),
            body_rate: 1024,
            body_grace: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(30),
            connections: 10_000,
            requests: 1024,
            h2_streams: 128,
            h2_pending_resets: 20,
            h2_local_resets: 1024,
            h2_ping_interval: Duration::from_secs(20),
            h2_ping_timeout: Duration::from_secs(10),
        }
    }
}
