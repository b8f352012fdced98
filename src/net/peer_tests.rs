use super::*;
use proptest::prelude::*;

fn headers(lines: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in lines {
        map.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
    }
    map
}

fn proxies(headers: ProxyHeaders) -> TrustedProxies {
    TrustedProxies::new(vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()], headers)
}

fn resolve(socket: &str, wire: &str, lines: &[(&str, &str)], kind: ProxyHeaders) -> (String, Option<String>) {
    let uri: http::Uri = wire.parse().unwrap();
    let caller = Caller::resolve(socket.parse().unwrap(), Scheme::HTTP, &uri, &headers(lines), &proxies(kind), None);
    (caller.peer.to_string(), caller.url(&uri))
}

#[test]
fn a_stranger_cannot_forward() {
    let lines = [
        ("host", "gw.example.com"),
        ("x-forwarded-for", "1.1.1.1"),
        ("x-forwarded-host", "evil.example"),
        ("x-forwarded-proto", "https"),
        ("forwarded", "for=1.1.1.1;host=evil.example;proto=https"),
    ];
    for kind in [ProxyHeaders::XForwarded, ProxyHeaders::Forwarded] {
        let (peer, url) = resolve("198.51.100.7", "/in/a?b=c", &lines, kind);
        assert_eq!((peer.as_str(), url.as_deref()), ("198.51.100.7", Some("http://gw.example.com/in/a?b=c")));
    }
}

/// The socket's peer, the header lines, the caller and the URL.
type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str, Option<String>);

#[test]
fn x_forwarded_table() {
    let url = |scheme: &str| Some(format!("{scheme}://gw.example.com/x"));
    let cases: &[Case<'_>] = &[
        ("10.0.0.1", &[("host", "gw.example.com")], "10.0.0.1", url("http")),
        ("10.0.0.1", &[("host", "gw.example.com"), ("x-forwarded-for", "1.2.3.4")], "1.2.3.4", url("http")),
        ("::ffff:10.0.0.1", &[("host", "gw.example.com"), ("x-forwarded-for", "1.2.3.4")], "1.2.3.4", url("http")),
        // The left part is what a stranger wrote.
        ("10.0.0.1", &[("host", "gw.example.com"), ("x-forwarded-for", "9.9.9.9, 1.2.3.4")], "1.2.3.4", url("http")),
        // Two lines are one list.
        (
            "10.0.0.1",
            &[("host", "gw.example.com"), ("x-forwarded-for", "9.9.9.9"), ("x-forwarded-for", "1.2.3.4, 10.0.0.2")],
            "1.2.3.4",
            url("http"),
        ),
        // All trusted: the left-most.
        ("10.0.0.1", &[("host", "gw.example.com"), ("x-forwarded-for", "10.0.0.3,10.0.0.2")], "10.0.0.3", url("http")),
        // What is no address ends the chain.
        ("10.0.0.1", &[("host", "gw.example.com"), ("x-forwarded-for", "1.1.1.1, unknown")], "10.0.0.1", url("http")),
        ("10.0.0.1", &[("host", "gw.example.com"), ("x-forwarded-for", "1.2.3.4:5678")], "1.2.3.4", url("http")),
        (
            "10.0.0.1",
            &[("host", "gw.example.com"), ("x-forwarded-for", "[2001:db8::1]:443")],
            "2001:db8::1",
            url("http"),
        ),
        ("fd00::1", &[("host", "gw.example.com"), ("x-forwarded-for", "2001:db8::1")], "2001:db8::1", url("http")),
        (
            "10.0.0.1",
            &[("host", "inner"), ("x-forwarded-proto", "HTTPS"), ("x-forwarded-host", "gw.example.com")],
            "10.0.0.1",
            url("https"),
        ),
        // Two proxies: the outer one saw https, the inner one http.
        (
            "10.0.0.1",
            &[
                ("host", "gw.example.com"),
                ("x-forwarded-for", "1.2.3.4, 10.0.0.2"),
                ("x-forwarded-proto", "https, http"),
            ],
            "1.2.3.4",
            url("https"),
        ),
        // One proxy that appends: what the stranger wrote does not count.
        (
            "10.0.0.1",
            &[
                ("host", "inner"),
                ("x-forwarded-for", "9.9.9.9, 1.2.3.4"),
                ("x-forwarded-host", "evil.example, gw.example.com"),
            ],
            "1.2.3.4",
            url("http"),
        ),
        // Nonsense in place of scheme or host is as if it were absent.
        (
            "10.0.0.1",
            &[("host", "gw.example.com"), ("x-forwarded-proto", "gopher"), ("x-forwarded-host", "a b")],
            "10.0.0.1",
            url("http"),
        ),
        ("10.0.0.1", &[("host", "gw.example.com"), ("x-forwarded-host", "user@evil.example")], "10.0.0.1", url("http")),
        // The other family is not believed.
        ("10.0.0.1", &[("host", "gw.example.com"), ("forwarded", "for=1.1.1.1")], "10.0.0.1", url("http")),
        ("10.0.0.1", &[], "10.0.0.1", None),
    ];
    for (socket, lines, peer, url) in cases {
        let found = resolve(socket, "/x", lines, ProxyHeaders::XForwarded);
        assert_eq!(found, ((*peer).to_owned(), url.clone()), "{socket} {lines:?}");
    }
}

#[test]
fn forwarded_table() {
    let cases = [
        (r#"for=1.2.3.4;proto=https;host=gw.example.com"#, "1.2.3.4", "https://gw.example.com/x"),
        (r#"For="[2001:db8::1]:4711"; Proto=https; Host="gw.example.com""#, "2001:db8::1", "https://gw.example.com/x"),
        (r#"for=9.9.9.9;host=evil.example, for=1.2.3.4;proto=https"#, "1.2.3.4", "https://inner/x"),
        (
            r#"for=1.2.3.4;host=gw.example.com;proto=https,for=10.0.0.2;proto=http;host=inner2"#,
            "1.2.3.4",
            "https://gw.example.com/x",
        ),
        (r#"for=1.1.1.1, for=unknown"#, "10.0.0.1", "http://inner/x"),
        (r#"for="_a,b;c";proto=https"#, "10.0.0.1", "https://inner/x"),
        ("", "10.0.0.1", "http://inner/x"),
    ];
    for (line, peer, url) in cases {
        let found = resolve("10.0.0.1", "/x", &[("host", "inner"), ("forwarded", line)], ProxyHeaders::Forwarded);
        assert_eq!(found, (peer.to_owned(), Some(url.to_owned())), "{line}");
    }
}

#[test]
fn the_setting_wins_and_may_have_a_path_and_port() {
    let uri: http::Uri = "/in/twilio?a=%41&b=+%20c".parse().unwrap();
    let lines = headers(&[("host", "inner:8080")]);
    for (setting, url) in [
        ("https://gw.example.com", "https://gw.example.com/in/twilio?a=%41&b=+%20c"),
        ("https://gw.example.com:443/", "https://gw.example.com:443/in/twilio?a=%41&b=+%20c"),
        ("https://example.com/gw/", "https://example.com/gw/in/twilio?a=%41&b=+%20c"),
    ] {
        let public = PublicUrl::parse(setting).unwrap();
        let socket = IpAddr::from([192, 0, 2, 1]);
        let caller = Caller::resolve(socket, Scheme::HTTP, &uri, &lines, &TrustedProxies::default(), Some(&public));
        assert_eq!(caller.url(&uri).unwrap(), url);
    }
}

#[test]
fn wrong_settings_are_refused() {
    for wrong in ["gw.example.com", "ftp://a", "https://u:p@a", "https://a/?b", "https://a/#b", "", "https://"] {
        assert!(PublicUrl::parse(wrong).is_err(), "{wrong}");
    }
}

proptest! {
    #[test]
    fn the_wire_is_given_back_unchanged(path in "/[!$-;=?-Z_a-z~%]{0,60}") {
        // What hyper hands over is what `http::Uri` parsed; the rest must be the identity.
        let uri: http::Uri = path.parse().unwrap();
        let lines = headers(&[("host", "gw.example.com")]);
        let caller = Caller::resolve([192, 0, 2, 1].into(), Scheme::HTTPS, &uri, &lines, &TrustedProxies::default(), None);
        prop_assert_eq!(caller.url(&uri).unwrap(), format!("https://gw.example.com{path}"));
    }

    #[test]
    fn no_header_moves_a_stranger(value in "[ -~]{0,80}", forwarded in any::<bool>()) {
        let kind = if forwarded { ProxyHeaders::Forwarded } else { ProxyHeaders::XForwarded };
        let lines = [
            ("host", "a.example"), ("x-forwarded-for", value.as_str()), ("x-forwarded-host", value.as_str()),
            ("x-forwarded-proto", value.as_str()), ("forwarded", value.as_str()),
        ];
        let found = resolve("192.0.2.1", "/", &lines, kind);
        prop_assert_eq!(found, ("192.0.2.1".to_owned(), Some("http://a.example/".to_owned())));
    }

    #[test]
    fn what_a_stranger_writes_on_the_left_is_never_the_peer(left in "[ -~]{0,60}") {
        let lines = [("x-forwarded-for", left.as_str()), ("x-forwarded-for", "1.2.3.4")];
        let found = resolve("10.0.0.1", "/", &lines, ProxyHeaders::XForwarded);
        prop_assert_eq!(found.0, "1.2.3.4");
        // A quote that the stranger opens must not swallow what the proxy added.
        let joined = format!("{left}, for=1.2.3.4");
        let found = resolve("10.0.0.1", "/", &[("forwarded", joined.as_str())], ProxyHeaders::Forwarded);
        prop_assert!(found.0 == "1.2.3.4" || found.0 == "10.0.0.1", "{}", found.0);
    }
}
