//! Which addresses the client may dial.
//!
//! A URL that comes from a payload or a setting must not lead into the operator's own network (server-side request
//! forgery). So an address is dialed only if it is globally reachable by the IANA special-purpose registries
//! ([IPv4](https://www.iana.org/assignments/iana-ipv4-special-registry),
//! [IPv6](https://www.iana.org/assignments/iana-ipv6-special-registry)), or if the operator lists it. The invariant:
//! if *any* address of a name is refused the whole name is, and only addresses that were checked are dialed.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

/// Decides which addresses may be dialed.
#[derive(Debug, Clone, Default)]
pub struct Guard {
    allowed: Vec<IpNet>,
}

/// Why an address or URL is not dialed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// Not an absolute URL.
    BadUrl,
    /// A scheme other than `http` and `https`.
    Scheme,
    /// A user or password inside the URL.
    UserInfo,
    /// The address is not public and not on the operator's list.
    NotPublic,
    /// `http` to an address that is not on the operator's list.
    PlainHttp,
    /// The port is neither usual for HTTPS nor is the address on the operator's list.
    Port,
    /// The request itself is not one that can be sent: its method or a header.
    BadRequest,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::BadUrl => "not an absolute URL with a host",
            Refusal::Scheme => "the scheme is neither https nor http",
            Refusal::UserInfo => "the URL contains a user or password",
            Refusal::NotPublic => "the address is not public and not on the list of allowed networks",
            Refusal::PlainHttp => "plain http is only for addresses on the list of allowed networks",
            Refusal::Port => "the port is not one for https and the address is not on the list of allowed networks",
            Refusal::BadRequest => "the method or a header cannot be sent",
        })
    }
}

impl Guard {
    /// Allows public addresses, and those in `allowed` whatever they are.
    pub fn new(allowed: Vec<IpNet>) -> Self {
        Guard { allowed }
    }

    /// Whether the operator lists `address`, as it is or as the IPv4 address it stands for.
    pub fn lists(&self, address: IpAddr) -> bool {
        let inner = unwrap(address);
        self.allowed.iter().any(|net| net.contains(&address) || net.contains(&inner))
    }

    /// Checks everything that one name resolved to, for one URL.
    ///
    /// # Errors
    ///
    /// The first [`Refusal`] that any of `addresses` deserves: one bad address refuses them all, because a name that
    /// points both inside and outside is an attack or a mistake.
    pub fn admit(&self, addresses: &[SocketAddr], https: bool, port_is_usual: bool) -> Result<(), Refusal> {
        for address in addresses {
            if self.lists(address.ip()) {
                continue;
            }
            if !is_public(address.ip()) {
                return Err(Refusal::NotPublic);
            }
            if !https {
                return Err(Refusal::PlainHttp);
            }
            if !port_is_usual {
                return Err(Refusal::Port);
            }
        }
        Ok(())
    }
}

/// The IPv4 address that an IPv6 address stands for on today's networks: mapped (RFC 4291) or behind NAT64 (RFC 6052).
fn unwrap(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    match v6.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            IpAddr::V4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
        }
        _ => address,
    }
}

/// Whether `address` is a globally reachable unicast address.
///
/// Mapped and NAT64 addresses are judged as the IPv4 address inside. The dead transition mechanisms that also carry an
/// IPv4 address (compatible, 6to4, Teredo) are refused whatever is inside: no public service lives there.
pub fn is_public(address: IpAddr) -> bool {
    match unwrap(address) {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

/// The IPv4 blocks that are not public: address and prefix length.
const SPECIAL_V4: &[(Ipv4Addr, u32)] = &[
    (Ipv4Addr::new(0, 0, 0, 0), 8),        // this network, RFC 791
    (Ipv4Addr::new(10, 0, 0, 0), 8),       // private, RFC 1918
    (Ipv4Addr::new(100, 64, 0, 0), 10),    // carrier-grade NAT, RFC 6598
    (Ipv4Addr::new(127, 0, 0, 0), 8),      // loopback, RFC 1122
    (Ipv4Addr::new(168, 63, 129, 16), 32), // a cloud's host agent, on a public number but inside
    (Ipv4Addr::new(169, 254, 0, 0), 16),   // link-local, RFC 3927; metadata services
    (Ipv4Addr::new(172, 16, 0, 0), 12),    // private, RFC 1918
    (Ipv4Addr::new(192, 0, 0, 0), 24),     // protocol assignments, RFC 6890
    (Ipv4Addr::new(192, 0, 2, 0), 24),     // documentation, RFC 5737
    (Ipv4Addr::new(192, 31, 196, 0), 24),  // AS112, RFC 7535
    (Ipv4Addr::new(192, 52, 193, 0), 24),  // AMT, RFC 7450
    (Ipv4Addr::new(192, 88, 99, 0), 24),   // 6to4 relays, RFC 7526
    (Ipv4Addr::new(192, 168, 0, 0), 16),   // private, RFC 1918
    (Ipv4Addr::new(192, 175, 48, 0), 24),  // AS112, RFC 7534
    (Ipv4Addr::new(198, 18, 0, 0), 15),    // benchmarking, RFC 2544
    (Ipv4Addr::new(198, 51, 100, 0), 24),  // documentation, RFC 5737
    (Ipv4Addr::new(203, 0, 113, 0), 24),   // documentation, RFC 5737
    (Ipv4Addr::new(224, 0, 0, 0), 4),      // multicast, RFC 5771
    (Ipv4Addr::new(240, 0, 0, 0), 4),      // reserved, RFC 1112; broadcast
];

fn is_public_v4(address: Ipv4Addr) -> bool {
    !SPECIAL_V4.iter().any(|(block, prefix)| (address.to_bits() ^ block.to_bits()) >> (32 - prefix) == 0)
}

/// The only IPv6 block that holds public unicast addresses, RFC 4291.
const GLOBAL_V6: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// What inside it is not public.
const SPECIAL_V6: &[(Ipv6Addr, u32)] = &[
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23), // protocol assignments with Teredo, RFC 2928
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32), // documentation, RFC 3849
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16), // 6to4, RFC 3056
    (Ipv6Addr::new(0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0), 48), // AS112, RFC 7534
    (Ipv6Addr::new(0x3ffe, 0, 0, 0, 0, 0, 0, 0), 16), // returned 6bone, RFC 3701
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20), // documentation, RFC 9637
];

fn is_public_v6(address: Ipv6Addr) -> bool {
    let within = |(block, prefix): &(Ipv6Addr, u32)| (address.to_bits() ^ block.to_bits()) >> (128 - prefix) == 0;
    within(&GLOBAL_V6) && !SPECIAL_V6.iter().any(within)
}

#[cfg(test)]
#[path = "guard_tests.rs"]
mod tests;
