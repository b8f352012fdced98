use super::*;
use proptest::prelude::*;

/// Addresses that must never be dialed unless listed. First and last of each block, and the well-known targets.
const INSIDE: &str = "
0.0.0.0 0.0.0.1 0.255.255.255 10.0.0.0 10.0.0.1 10.1.2.3 10.255.255.255 100.64.0.0 100.64.0.1 100.100.100.200
100.127.255.255 127.0.0.0 127.0.0.1 127.0.0.2 127.0.0.53 127.1.1.1 127.255.255.255 168.63.129.16 169.254.0.0
169.254.0.1 169.254.169.253 169.254.169.254 169.254.170.2 169.254.170.23 169.254.255.255 172.16.0.0 172.16.0.1
172.17.0.1 172.20.10.1 172.31.255.254 172.31.255.255 192.0.0.0 192.0.0.1 192.0.0.8 192.0.0.9 192.0.0.10
192.0.0.170 192.0.0.171 192.0.0.192 192.0.0.255 192.0.2.0 192.0.2.1 192.0.2.255 192.31.196.0 192.31.196.1
192.31.196.255 192.52.193.0 192.52.193.1 192.52.193.255 192.88.99.0 192.88.99.1 192.88.99.2 192.88.99.255
192.168.0.0 192.168.0.1 192.168.1.1 192.168.100.1 192.168.255.255 192.175.48.0 192.175.48.1 192.175.48.255
198.18.0.0 198.18.0.1 198.19.0.1 198.19.255.255 198.51.100.0 198.51.100.1 198.51.100.255 203.0.113.0 203.0.113.1
203.0.113.255 224.0.0.0 224.0.0.1 224.0.0.251 232.1.1.1 233.252.0.1 239.255.255.250 239.255.255.255 240.0.0.0
240.0.0.1 250.1.2.3 255.255.255.254 255.255.255.255
:: ::1 ::2 ::7f00:1 ::127.0.0.1 ::10.0.0.1 ::169.254.169.254 ::8.8.8.8 ::ffff ::1:0:0
::ffff:0.0.0.0 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 ::ffff:192.168.0.1 ::ffff:172.16.0.1
::ffff:100.64.0.1 ::ffff:224.0.0.1 ::ffff:255.255.255.255 ::ffff:0:127.0.0.1 ::ffff:0:8.8.8.8
64:ff9b::0.0.0.0 64:ff9b::127.0.0.1 64:ff9b::10.0.0.1 64:ff9b::169.254.169.254 64:ff9b::192.168.1.1
64:ff9b::172.31.0.1 64:ff9b::100.64.0.1 64:ff9b::198.18.0.1 64:ff9b::240.0.0.1 64:ff9b:0:1::8.8.8.8
64:ff9b:1:: 64:ff9b:1::10.0.0.1 64:ff9b:1::8.8.8.8 64:ff9b:1:ffff:ffff:ffff:ffff:ffff
100:: 100::1 100::ffff:ffff:ffff:ffff 100:0:0:1::1 200::1 400::1 1000::1 1fff:ffff::1
2001:: 2001::1 2001:0:7f00:1::1 2001:0:4136:e378:8000:63bf:3fff:fdd2 2001:0:808:808:0:0:f7f7:f7f7 2001:1::1
2001:1::2 2001:1::3 2001:2::1 2001:3::1 2001:4:112::1 2001:5::1 2001:10::1 2001:1f:ffff::1 2001:20::1 2001:30::1
2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff 2001:db8:: 2001:db8::1 2001:db8:ffff:ffff:ffff:ffff:ffff:ffff
2002:: 2002:7f00:1::1 2002:a00:1::1 2002:a9fe:a9fe::1 2002:c0a8:101::1 2002:808:808::1 2002:ffff:ffff::
2620:4f:8000::1 2620:4f:8000:ffff:ffff:ffff:ffff:ffff 3ffe::1 3fff::1 3fff:fff:ffff::1 4000::1 5f00::1
5f00:ffff::1 6000::1 8000::1 a000::1 c000::1 e000::1 f000::1 fc00:: fc00::1 fd00::1 fd00:ec2::254
fd20:ce::254 fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff fe00::1 fe80:: fe80::1 fe80::a9fe:a9fe
febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff fec0::1 feff::1 ff00:: ff01::1 ff02::1 ff02::fb ff05::2 ff0e::1
ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff
";

/// Addresses next to those blocks, and some that live in public.
const OUTSIDE: &str = "
1.0.0.0 1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0 168.63.129.15
168.63.129.17 169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 191.255.255.255 192.0.1.0 192.0.3.0
192.31.195.255 192.31.197.0 192.52.192.255 192.52.194.0 192.88.98.255 192.88.100.0 192.167.255.255 192.169.0.0
192.175.47.255 192.175.49.0 198.17.255.255 198.20.0.0 198.51.99.255 198.51.101.0 203.0.112.255 203.0.114.0
223.255.255.255 ::ffff:8.8.8.8 ::ffff:1.1.1.1 64:ff9b::8.8.8.8 64:ff9b::1.1.1.1 2000::1 2001:200::1
2001:4860:4860::8888 2001:db7:ffff::1 2001:db9::1 2003::1 2400:cb00::1 2606:4700:4700::1111 2620:4f:7fff::1
2620:4f:8001::1 2620:fe::fe 2a00:1450:4001::1 2a03:2880::1 3ffd::1 3fff:1000::1
";

fn table(text: &str) -> Vec<IpAddr> {
    text.split_whitespace().map(|word| word.parse().unwrap_or_else(|_| panic!("{word}"))).collect()
}

#[test]
fn the_table_is_refused() {
    let inside = table(INSIDE);
    assert!(inside.len() >= 150, "{}", inside.len());
    for address in inside {
        assert!(!is_public(address), "{address}");
        let found = Guard::default().admit(&[SocketAddr::new(address, 443)], true, true);
        assert_eq!(found, Err(Refusal::NotPublic), "{address}");
    }
}

#[test]
fn the_neighbors_are_public() {
    for address in table(OUTSIDE) {
        assert!(is_public(address), "{address}");
    }
}

#[test]
fn one_bad_address_refuses_the_name() {
    let good: SocketAddr = "8.8.8.8:443".parse().unwrap();
    let bad: SocketAddr = "10.0.0.1:443".parse().unwrap();
    let guard = Guard::default();
    assert_eq!(guard.admit(&[good], true, true), Ok(()));
    assert_eq!(guard.admit(&[good, bad], true, true), Err(Refusal::NotPublic));
    assert_eq!(guard.admit(&[bad, good], true, true), Err(Refusal::NotPublic));
    assert_eq!(guard.admit(&[good], false, true), Err(Refusal::PlainHttp));
    assert_eq!(guard.admit(&[good], true, false), Err(Refusal::Port));
}

#[test]
fn the_operators_list_opens_exactly_what_it_names() {
    let guard = Guard::new(vec!["10.1.0.0/16".parse().unwrap(), "fd00::/16".parse().unwrap()]);
    for inside in ["10.1.2.3:80", "[::ffff:10.1.2.3]:8080", "[64:ff9b::10.1.2.3]:80", "[fd00::7]:1"] {
        assert_eq!(guard.admit(&[inside.parse().unwrap()], false, false), Ok(()), "{inside}");
    }
    for outside in ["10.2.0.1:443", "127.0.0.1:443", "[fd01::1]:443", "[2002:a01:203::1]:443", "[::10.1.2.3]:443"] {
        assert_eq!(guard.admit(&[outside.parse().unwrap()], true, true), Err(Refusal::NotPublic), "{outside}");
    }
}

proptest! {
    #[test]
    fn wrapping_an_address_never_makes_it_public(bits: u32) {
        let v4 = Ipv4Addr::from_bits(bits);
        let public = is_public(v4.into());
        prop_assert_eq!(is_public(v4.to_ipv6_mapped().into()), public);
        let [a, b, c, d] = v4.octets().map(u16::from);
        let (high, low) = (a << 8 | b, c << 8 | d);
        prop_assert_eq!(is_public(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low).into()), public);
        for dead in [
            Ipv6Addr::new(0, 0, 0, 0, 0, 0, high, low),
            Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
            Ipv6Addr::new(0x2001, 0, high, low, 0, 0, !high, !low),
            Ipv6Addr::new(0x64, 0xff9b, 1, high, low, 0, 0, 0),
        ] {
            prop_assert!(!is_public(dead.into()), "{}", dead);
        }
    }

    #[test]
    fn never_more_generous_than_the_standard_library(bits: u32) {
        let v4 = Ipv4Addr::from_bits(bits);
        let special = v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_multicast()
            || v4.is_documentation() || v4.is_broadcast() || v4.is_unspecified();
        prop_assert!(!(special && is_public(v4.into())));
    }
}
