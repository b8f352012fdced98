use std::time::Duration;

use http_body_util::{BodyExt, Empty, Full};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::body::{Body, BoxError};
use super::super::handler::Tower;
use super::*;
use bytes::Bytes;
use futures_util::future::BoxFuture;

/// Echoes bodies; some paths behave in their own way.
struct Echo {
    /// Permits let `/wait` go on.
    gate: Semaphore,
    /// Counts the requests that reached `/wait`.
    waiting: watch::Sender<usize>,
}

impl Echo {
    fn new() -> Arc<Self> {
        Arc::new(Echo { gate: Semaphore::new(0), waiting: watch::channel(0).0 })
    }
}

impl Handler for Echo {
    fn handle(self: Arc<Self>, request: Request) -> BoxFuture<'static, Response> {
        Box::pin(async move {
            if request.overloaded {
                return Request::overload();
            }
            match request.uri.path() {
                "/unknown" => problem(StatusCode::NOT_FOUND, "no such channel"),
                "/peer" => {
                    let url = request.public_url().unwrap_or_default();
                    Response::new(Body::from(format!("{} {url}", request.peer())))
                }
                "/wait" => {
                    self.waiting.send_modify(|count| *count += 1);
                    drop(self.gate.acquire().await);
                    Response::new(Body::from("waited"))
                }
                "/big" => Response::new(Body::from(vec![b'x'; 64 * 1024 * 1024])),
                "/stream" => {
                    let frames =
                        (0..3).map(|n| Ok::<_, BoxError>(http_body::Frame::data(Bytes::from(format!("{n};")))));
                    let frames = futures_util::stream::iter(frames.collect::<Vec<_>>());
                    Response::new(Body::stream(http_body_util::StreamBody::new(frames)))
                }
                _ => match request.body.read(1000).await {
                    Ok(bytes) => Response::new(Body::from(bytes)),
                    Err(error) => {
                        let mut answer = Response::new(Body::from(error.to_string()));
                        *answer.status_mut() = error.status();
                        answer
                    }
                },
            }
        })
    }
}

async fn start_with(change: impl FnOnce(&mut Settings)) -> (Server, Arc<Echo>) {
    let mut settings = Settings::new(SocketAddr::from(([127, 0, 0, 1], 0)));
    change(&mut settings);
    let echo = Echo::new();
    (Server::start(settings, echo.clone()).await.unwrap(), echo)
}

/// Writes `text`, then reads until the listener closes.
async fn raw(server: &Server, text: impl AsRef<[u8]>) -> String {
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    stream.write_all(text.as_ref()).await.unwrap();
    rest(&mut stream).await
}

async fn rest(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    // Far longer than any limit in these tests: passing it means that the listener never closed.
    let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await;
    let _ = read.expect("the listener closes in time");
    String::from_utf8_lossy(&answer).into_owned()
}

fn post(path: &str, body: &str) -> String {
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nHost: a.example\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
}

fn status(answer: &str) -> &str {
    answer.get(9..12).unwrap_or_default()
}

#[tokio::test]
async fn echoes_over_http_1_and_keeps_the_connection() {
    let (server, _) = start_with(|_| {}).await;
    let both = format!("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi{}", post("/b", "there"));
    let answer = raw(&server, both).await;
    assert_eq!(answer.matches("HTTP/1.1 200").count(), 2, "{answer}");
    assert!(answer.contains("\r\n\r\nhiHTTP/1.1") && answer.ends_with("\r\n\r\nthere"), "{answer}");
}

#[tokio::test]
async fn echoes_over_http_2_on_the_same_port() {
    let (server, _) = start_with(|_| {}).await;
    let stream = TcpStream::connect(server.address()).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    for (path, sent, code, got) in [
        ("http://gw.example/echo", "hello".to_owned(), 200, "hello".to_owned()),
        ("http://gw.example/peer?x=%41", String::new(), 200, "127.0.0.1 http://gw.example/peer?x=%41".to_owned()),
        ("http://gw.example/stream", String::new(), 200, "0;1;2;".to_owned()),
        ("http://gw.example/echo", "x".repeat(1001), 413, "the body has more than 1000 bytes".to_owned()),
    ] {
        let request = http::Request::post(path).body(Full::new(Bytes::from(sent))).unwrap();
        let answer = sender.send_request(request).await.unwrap();
        assert_eq!(answer.status(), code);
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, got.as_bytes());
    }
    let mut many = http::Request::post("http://gw.example/");
    for n in 0..101 {
        many = many.header(format!("x-{n}"), "1");
    }
    let answer = sender.send_request(many.body(Full::default()).unwrap()).await.unwrap();
    assert_eq!(answer.status(), 431);
    let coded = http::Request::post("http://gw.example/").header(CONTENT_ENCODING, "gzip");
    let answer = sender.send_request(coded.body(Full::default()).unwrap()).await.unwrap();
    assert_eq!(answer.status(), 415);
}

#[tokio::test]
async fn heads_out_of_bounds_are_refused() {
    let (server, _) = start_with(|settings| settings.limits.header_count = 20).await;
    let many: String = (0..21).map(|n| format!("X-{n}: 1\r\n")).collect();
    let long = "x".repeat(40_000);
    for (head, code) in [
        (format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n"), "431"),
        (format!("GET / HTTP/1.1\r\nHost: a\r\nX: {long}\r\n\r\n"), "431"),
        (format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n"), "4"),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), "400"),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_owned(), "400"),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n".to_owned(), "415"),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Encoding: identity\r\nConnection: close\r\n\r\n".to_owned(), "200"),
        ("nonsense\r\n\r\n".to_owned(), "400"),
    ] {
        // A client that waits for an answer shuts its side when it has read one.
        let mut stream = TcpStream::connect(server.address()).await.unwrap();
        let _ = stream.write_all(head.as_bytes()).await;
        let _ = stream.shutdown().await;
        let answer = rest(&mut stream).await;
        assert!(status(&answer).starts_with(code), "{code}: {answer}");
    }
}

#[tokio::test]
async fn an_oversized_body_is_refused_and_the_answer_can_be_read() {
    let (server, _) = start_with(|_| {}).await;
    // Declared: refused before it is read. Endless: as soon as the cap is passed. Both go on sending meanwhile.
    let declared = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2000000\r\n\r\n{}", "x".repeat(2_000_000));
    let chunk = format!("{:x}\r\n{}\r\n", 1000, "x".repeat(1000));
    let chunked = format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{}", chunk.repeat(2000));
    for text in [declared, chunked] {
        let stream = TcpStream::connect(server.address()).await.unwrap();
        let (mut reader, mut writer) = stream.into_split();
        let writing = tokio::spawn(async move {
            let _ = writer.write_all(text.as_bytes()).await;
        });
        let mut answer = String::new();
        reader.read_to_string(&mut answer).await.unwrap();
        assert_eq!(status(&answer), "413", "{answer}");
        writing.await.unwrap();
    }
}

#[tokio::test]
async fn an_unknown_path_is_answered_before_its_body_comes() {
    let (server, _) = start_with(|_| {}).await;
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    stream.write_all(b"POST /unknown HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n").await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 404");
}

#[tokio::test]
async fn slow_peers_are_cut() {
    let (server, _) = start_with(|settings| {
        settings.limits.header_timeout = Duration::from_millis(80);
        settings.limits.idle_timeout = Duration::from_millis(150);
        settings.limits.body_grace = Duration::from_millis(60);
    })
    .await;
    // Silence, and a head that never ends.
    assert_eq!(raw(&server, "").await, "");
    assert_eq!(raw(&server, "GET / HTTP/1.1\r\nHost: a\r\nX-").await, "");
    // A second head that never ends, and an idle connection.
    let first = "GET /stream HTTP/1.1\r\nHost: a\r\n\r\n";
    assert!(raw(&server, first).await.starts_with("HTTP/1.1 200"));
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    stream.write_all(first.as_bytes()).await.unwrap();
    let mut head = [0; 15];
    stream.read_exact(&mut head).await.unwrap();
    stream.write_all(b"GET / HT").await.unwrap();
    rest(&mut stream).await;
    // A body that stops.
    let answer = raw(&server, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc").await;
    assert_eq!(status(&answer), "408", "{answer}");
    assert!(answer.ends_with("the body came too slowly"));
}

#[tokio::test]
async fn a_peer_that_does_not_read_is_cut() {
    let (server, _) = start_with(|settings| settings.limits.write_timeout = Duration::from_millis(80)).await;
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    stream.write_all(b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    stream.read_exact(&mut [0; 15]).await.unwrap();
    assert_eq!(server.connections(), 1);
    let gone = async {
        while server.connections() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone).await.expect("the listener cuts");
}

#[tokio::test]
async fn an_idle_http_2_connection_is_closed_but_a_busy_one_is_not() {
    let (server, echo) = start_with(|settings| {
        settings.limits.idle_timeout = Duration::from_millis(80);
        settings.limits.header_timeout = Duration::from_millis(80);
    })
    .await;
    let stream = TcpStream::connect(server.address()).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = http::Request::get("http://gw.example/wait").body(Empty::<Bytes>::new()).unwrap();
    let answer = tokio::spawn(sender.send_request(request));
    echo.waiting.subscribe().wait_for(|count| *count == 1).await.unwrap();
    // An idle neighbor is closed meanwhile, after at least the same time.
    assert!(raw(&server, "GET /stream HTTP/1.1\r\nHost: a\r\n\r\n").await.starts_with("HTTP/1.1 200"));
    echo.gate.add_permits(1);
    assert_eq!(answer.await.unwrap().unwrap().status(), 200);
    let closed = tokio::time::timeout(Duration::from_secs(20), connection).await.expect("closed");
    closed.unwrap().unwrap();
}

#[tokio::test]
async fn a_truncated_body_reaches_no_handler_as_a_whole() {
    let (server, _) = start_with(|_| {}).await;
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    stream.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc").await.unwrap();
    stream.shutdown().await.unwrap();
    let answer = rest(&mut stream).await;
    assert!(answer.is_empty() || status(&answer) == "400", "{answer}");
}

#[tokio::test]
async fn overload_is_told_to_the_handler() {
    let (server, echo) = start_with(|settings| settings.limits.requests = 1).await;
    let mut waiting = echo.waiting.subscribe();
    let address = server.address();
    let first = tokio::spawn(async move {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(post("/wait", "").as_bytes()).await.unwrap();
        rest(&mut stream).await
    });
    waiting.wait_for(|count| *count == 1).await.unwrap();
    let answer = raw(&server, post("/", "x")).await;
    assert_eq!(status(&answer), "503");
    assert!(answer.contains("retry-after: 1\r\n"), "{answer}");
    echo.gate.add_permits(1);
    assert_eq!(status(&first.await.unwrap()), "200");
    assert_eq!(status(&raw(&server, post("/", "x")).await), "200");
}

#[tokio::test]
async fn idle_connections_make_room_for_new_ones() {
    let (server, _) = start_with(|settings| settings.limits.connections = 2).await;
    let mut idle = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(server.address()).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let mut head = [0; 15];
        stream.read_exact(&mut head).await.unwrap();
        idle.push(stream);
    }
    let answer = tokio::time::timeout(Duration::from_secs(9), raw(&server, post("/", "room"))).await.unwrap();
    assert!(answer.ends_with("room"), "{answer}");
}

#[tokio::test]
async fn connections_that_dribble_make_room_too() {
    let (server, _) = start_with(|settings| settings.limits.connections = 2).await;
    let mut dribbling = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(server.address()).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nX").await.unwrap();
        dribbling.push(stream);
    }
    // Less than the head timeout of 10 s: it was not that timeout that made room.
    let answer = tokio::time::timeout(Duration::from_secs(9), raw(&server, post("/", "room"))).await.unwrap();
    assert!(answer.ends_with("room"), "{answer}");
}

#[tokio::test]
async fn a_drain_finishes_what_has_begun_and_accepts_nothing_more() {
    let (server, echo) = start_with(|_| {}).await;
    let (address, mut waiting) = (server.address(), echo.waiting.subscribe());
    let mut idle = TcpStream::connect(address).await.unwrap();
    idle.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let mut busy = TcpStream::connect(address).await.unwrap();
    busy.write_all(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    waiting.wait_for(|count| *count == 1).await.unwrap();
    let draining = tokio::spawn(server.drain(Duration::from_secs(20)));
    // The idle one is closed at once, which shows that the drain has begun.
    assert!(rest(&mut idle).await.starts_with("HTTP/1.1 200"));
    assert!(TcpStream::connect(address).await.is_err());
    echo.gate.add_permits(1);
    let answer = rest(&mut busy).await;
    assert!(answer.ends_with("waited"), "{answer}");
    assert_eq!(draining.await.unwrap(), Drained { cut: 0 });
}

#[tokio::test]
async fn a_drain_cuts_what_is_not_done_in_time() {
    let (server, echo) = start_with(|_| {}).await;
    let mut busy = TcpStream::connect(server.address()).await.unwrap();
    busy.write_all(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    echo.waiting.subscribe().wait_for(|count| *count == 1).await.unwrap();
    assert_eq!(server.drain(Duration::from_millis(30)).await, Drained { cut: 1 });
    assert_eq!(rest(&mut busy).await, "");
}

#[tokio::test]
async fn trusted_proxies_and_the_setting_give_the_url() {
    let head = "GET /peer?a=%2f HTTP/1.1\r\nHost: inner\r\nX-Forwarded-For: 9.9.9.9, 1.2.3.4\r\n\
                X-Forwarded-Proto: https\r\nX-Forwarded-Host: gw.example.com\r\nConnection: close\r\n\r\n";
    let (server, _) = start_with(|_| {}).await;
    assert!(raw(&server, head).await.ends_with("127.0.0.1 http://inner/peer?a=%2f"));
    let loopback =
        TrustedProxies::new(vec!["127.0.0.0/8".parse().unwrap()], super::super::peer::ProxyHeaders::XForwarded);
    let (server, _) = start_with(|settings| settings.proxies = loopback).await;
    assert!(raw(&server, head).await.ends_with("1.2.3.4 https://gw.example.com/peer?a=%2f"));
    let public = PublicUrl::parse("https://example.com/base/").unwrap();
    let (server, _) = start_with(|settings| settings.public_url = Some(public)).await;
    assert!(raw(&server, head).await.ends_with("127.0.0.1 https://example.com/base/peer?a=%2f"));
}

#[tokio::test]
async fn a_router_can_be_mounted() {
    let router = axum::Router::new()
        .route("/hello", axum::routing::get(|| async { "hello" }))
        .route("/echo", axum::routing::post(|body: Bytes| async move { body }));
    let settings = Settings::new(SocketAddr::from(([127, 0, 0, 1], 0)));
    let server = Server::start(settings, Arc::new(Tower(router))).await.unwrap();
    assert!(raw(&server, post("/echo", "abc")).await.ends_with("\r\n\r\nabc"));
    let get = "GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    assert!(raw(&server, get).await.ends_with("\r\n\r\nhello"));
    assert_eq!(status(&raw(&server, post("/none", "")).await), "404");
}

#[tokio::test]
async fn tls_serves_both_versions_and_a_renewed_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    let renew = || {
        let pair = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        std::fs::write(&cert, pair.cert.pem()).unwrap();
        std::fs::write(&key, pair.signing_key.serialize_pem()).unwrap();
        pair.cert.der().clone()
    };
    let first = renew();
    let tls = Arc::new(ServerTls::load(&cert, &key).unwrap());
    let (server, _) = start_with(|settings| {
        settings.tls = Some(Arc::clone(&tls));
        settings.limits.header_timeout = Duration::from_millis(500);
    })
    .await;

    let mut old = shake(&server, &first, b"http/1.1").await.unwrap();
    let second = renew();
    tls.reload().unwrap();
    assert!(shake(&server, &first, b"http/1.1").await.is_err(), "the old certificate is gone");
    let new = shake(&server, &second, b"h2").await.unwrap();
    assert_eq!(new.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(new)).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::get("https://gw.example/peer").body(Empty::<Bytes>::new()).unwrap();
    let body = sender.send_request(request).await.unwrap().into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "127.0.0.1 https://gw.example/peer".as_bytes());

    // The connection with the old certificate goes on.
    old.write_all(post("/", "still").as_bytes()).await.unwrap();
    let mut answer = String::new();
    old.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("still"), "{answer}");
    // Who does not shake hands is cut.
    assert_eq!(raw(&server, "").await, "");
}

async fn shake(
    server: &Server,
    trusted: &rustls::pki_types::CertificateDer<'static>,
    protocol: &[u8],
) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    let stream = TcpStream::connect(server.address()).await?;
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let (server, _) = start_with(|_| {}).await;
    let error = Server::start(Settings::new(server.address()), Echo::new()).await.unwrap_err();
    assert_eq!(error.kind(), crate::base::Kind::Io);
    assert!(error.to_string().contains(&server.address().to_string()));
}
