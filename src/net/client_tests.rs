use std::net::SocketAddr;

use super::super::handler::{self, Handler};
use super::super::{Body, Server, server};
use super::*;
use futures_util::future::BoxFuture;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

fn client_with(change: impl FnOnce(&mut Settings)) -> Client {
    let mut settings =
        Settings { allow: vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()], ..Settings::default() };
    change(&mut settings);
    Client::new(settings).unwrap()
}

/// A peer that reads one head and the body of each connection and answers with the next of `scripts`; an empty script
/// closes without an answer. Gives its URL and a count of requests read.
async fn peer(scripts: Vec<&'static str>) -> (String, tokio::task::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let task = tokio::spawn(async move {
        let mut seen = Vec::new();
        for script in scripts {
            let (mut stream, _) = listener.accept().await.unwrap();
            seen.push(read_request(&mut stream).await);
            let _ = stream.write_all(script.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
        seen
    });
    (url, task)
}

/// A request with a declared length, or none.
async fn read_request(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    loop {
        let mut buffer = [0; 1024];
        let count = stream.read(&mut buffer).await.unwrap();
        text.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if count == 0 || body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                return text;
            }
        } else if count == 0 {
            return text;
        }
    }
}

async fn failure(client: &Client, request: Request) -> (Phase, Fault) {
    match client.send(request).await {
        Ok(answer) => panic!("answered {}", answer.status),
        Err(error) => (error.phase(), error.fault()),
    }
}

#[tokio::test]
async fn sends_what_it_is_told_and_nothing_else() {
    let (url, seen) = peer(vec!["HTTP/1.1 201 Created\r\nX-A: b\r\nContent-Length: 2\r\n\r\nok"]).await;
    let request = Request::post(format!("{url}/hook?a=%20b"), "body")
        .header(HeaderName::from_static("webhook-id"), HeaderValue::from_static("ev_1"))
        .header(HOST, HeaderValue::from_static("evil.example"))
        .header(CONTENT_LENGTH, HeaderValue::from_static("1"))
        .header(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    let answer = client_with(|_| {}).send(request).await.ok().unwrap();
    assert_eq!((answer.status.as_u16(), &answer.body[..]), (201, &b"ok"[..]));
    assert_eq!(answer.headers["x-a"], "b");
    let seen = seen.await.unwrap().remove(0);
    assert!(seen.starts_with("POST /hook?a=%20b HTTP/1.1\r\n"), "{seen}");
    assert!(seen.contains(&format!("host: {}\r\n", url.trim_start_matches("http://"))), "{seen}");
    assert!(seen.contains("webhook-id: ev_1\r\n") && seen.contains("content-length: 4\r\n"), "{seen}");
    assert!(!seen.contains("evil") && !seen.contains("chunked"), "{seen}");
}

#[tokio::test]
async fn an_empty_post_declares_its_length() {
    let (url, seen) = peer(vec!["HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"]).await;
    client_with(|_| {}).send(Request::post(url, "")).await.ok().unwrap();
    let seen = seen.await.unwrap().remove(0);
    assert_eq!(seen.matches("content-length: 0\r\n").count(), 1, "{seen}");
}

#[tokio::test]
async fn refusals_come_before_anything_is_dialed() {
    use Refusal::*;
    let open = client_with(|_| {});
    let closed = client_with(|settings| settings.allow.clear());
    for (client, url, refusal) in [
        (&open, "not a url", BadUrl),
        (&open, "/relative", BadUrl),
        (&open, "ftp://127.0.0.1/", Scheme),
        (&open, "file:///etc/passwd", Scheme),
        (&open, "http://user:secret@127.0.0.1/", UserInfo),
        (&open, "http://10.0.0.1/", NotPublic),
        (&open, "http://[::ffff:10.0.0.1]/", NotPublic),
        (&open, "https://169.254.169.254/latest/meta-data/", NotPublic),
        (&open, "http://8.8.8.8/", PlainHttp),
        (&open, "https://8.8.8.8:22/", Port),
        (&closed, "http://127.0.0.1/", NotPublic),
        (&closed, "https://localhost/", NotPublic),
        (&closed, "https://2130706433/", NotPublic),
        (&closed, "https://0x7f000001/", NotPublic),
        (&closed, "https://0177.0.0.1/", NotPublic),
        (&closed, "https://0x7f.1/", NotPublic),
        (&closed, "https://127.1/", NotPublic),
        (&closed, "https://127.0.0.1./", NotPublic),
        (&closed, "https://%31%32%37.0.0.1/", NotPublic),
        (&closed, "https://１２７.０.０.１/", NotPublic),
        (&closed, "https://①②⑦.0.0.1/", NotPublic),
        (&closed, "https://[::1]/", NotPublic),
        (&closed, "https://[::]/", NotPublic),
        (&closed, "https://[::ffff:7f00:1]/", NotPublic),
        (&closed, "https://[64:ff9b::7f00:1]/", NotPublic),
        (&closed, "https://0/", NotPublic),
        (&closed, "https:/\\127.0.0.1/", NotPublic),
        (&closed, "https://127。0。0。1/", NotPublic),
    ] {
        assert_eq!(failure(client, Request::get(url)).await, (Phase::BeforeSend, Fault::Refused(refusal)), "{url}");
    }
    let connect = Request::new(Method::CONNECT, "http://127.0.0.1/");
    assert_eq!(failure(&open, connect).await, (Phase::BeforeSend, Fault::Refused(BadRequest)));
}

#[tokio::test]
async fn an_error_names_the_host_and_not_the_path() {
    let error = client_with(|_| {}).send(Request::get("http://10.0.0.1/bot-token-123?k=v")).await.err().unwrap();
    assert_eq!(error.host(), "10.0.0.1");
    let error = crate::base::Error::from(error);
    assert!(!error.full().contains("token"), "{}", error.full());
    assert_eq!((error.kind(), error.side()), (crate::base::Kind::Forbidden, crate::base::Side::Operator));
}

#[tokio::test]
async fn phases_of_failure() {
    // Nobody listens: the port was free a moment ago.
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let client = client_with(|settings| settings.timeout = Duration::from_millis(300));
    assert_eq!(failure(&client, Request::get(format!("http://{free}/"))).await, (Phase::BeforeSend, Fault::Connect));
    // A name that cannot exist (RFC 6761); where there is no resolver at all, its silence takes the time.
    let (phase, fault) = failure(&client, Request::get("https://nowhere.invalid/")).await;
    assert!(phase == Phase::BeforeSend && matches!(fault, Fault::Dns | Fault::Timeout), "{phase:?} {fault:?}");
    for (script, fault) in [
        ("", Fault::Protocol),
        ("nonsense\r\n\r\n", Fault::Protocol),
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", Fault::Protocol),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc", Fault::Protocol),
        ("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", Fault::TooLarge),
        ("HTTP/1.1 200 OK\r\n\r\n12345678901", Fault::TooLarge),
    ] {
        let (url, seen) = peer(vec![script]).await;
        let found = failure(&client, Request::post(url, "x").response_bytes(10)).await;
        assert_eq!(found, (Phase::Uncertain, fault), "{script}");
        assert_eq!(seen.await.unwrap().len(), 1, "sent once");
    }
}

#[tokio::test]
async fn a_peer_that_closes_at_once_or_says_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let client = client_with(|settings| settings.timeout = Duration::from_millis(200));
    // Accepts and closes: the request may or may not have been written, so only a certain word will do.
    let closing = tokio::spawn(async move {
        drop(listener.accept().await.unwrap());
        listener
    });
    let found = failure(&client, Request::post(&url, "x")).await;
    let honest = [(Phase::Uncertain, Fault::Protocol), (Phase::BeforeSend, Fault::Connect)];
    assert!(honest.contains(&found), "{found:?}");
    // Never answers.
    let listener = closing.await.unwrap();
    let holding = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let text = read_request(&mut stream).await;
        // Held until the client gives up.
        assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
        text
    });
    assert_eq!(failure(&client, Request::post(&url, "x")).await, (Phase::Uncertain, Fault::Timeout));
    assert!(holding.await.unwrap().ends_with("\r\n\r\nx"));
}

#[tokio::test]
async fn a_redirect_is_an_answer() {
    let (url, seen) =
        peer(vec!["HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n"]).await;
    let answer = client_with(|_| {}).send(Request::get(url)).await.ok().unwrap();
    assert_eq!(answer.status, 302);
    assert_eq!(seen.await.unwrap().len(), 1);
}

/// Answers with the body it was sent.
struct Echo;

impl Handler for Echo {
    fn handle(self: Arc<Self>, request: handler::Request) -> BoxFuture<'static, handler::Response> {
        Box::pin(async move {
            match request.body.read(1 << 20).await {
                Ok(body) => handler::Response::new(Body::from(body)),
                Err(error) => handler::Response::new(Body::from(error.to_string())),
            }
        })
    }
}

async fn serve() -> Server {
    Server::start(server::Settings::new(SocketAddr::from(([127, 0, 0, 1], 0))), Arc::new(Echo)).await.unwrap()
}

#[tokio::test]
async fn connections_are_reused_and_bounded() {
    let server = serve().await;
    let client = client_with(|settings| settings.idle_per_host = 4);
    let url = format!("http://{}/", server.address());
    for _ in 0..50 {
        assert_eq!(client.send(Request::post(&url, "x")).await.ok().unwrap().body, "x");
    }
    assert_eq!(server.connections(), 1);
    let many = (0..40).map(|_| {
        let (client, url) = (client.clone(), url.clone());
        // A task each: the future must be `Send`.
        tokio::spawn(async move { client.send(Request::post(url, "y")).await.ok().unwrap().body })
    });
    for body in futures_util::future::join_all(many).await {
        assert_eq!(body.unwrap(), "y");
    }
    assert!(client.0.pool.len() <= 4);
}

/// A peer that answers each connection once, keeps it open until told, then closes it. Counts the requests it read.
async fn keeper(tell: Arc<tokio::sync::Notify>) -> (String, Arc<std::sync::atomic::AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let read = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = Arc::clone(&read);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_request(&mut stream).await;
            count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
            tell.notified().await;
        }
    });
    (url, read)
}

#[tokio::test]
async fn a_kept_connection_that_the_peer_closed_is_not_used() {
    let tell = Arc::new(tokio::sync::Notify::new());
    let (url, read) = keeper(Arc::clone(&tell)).await;
    let client = client_with(|_| {});
    for sent in 1..=5 {
        assert_eq!(client.send(Request::post(&url, "x")).await.ok().unwrap().status, 200);
        assert_eq!(read.load(std::sync::atomic::Ordering::SeqCst), sent);
        assert_eq!(client.0.pool.len(), 1);
        tell.notify_one();
        while client.0.pool.open() > 0 {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn a_request_that_was_never_begun_is_handed_back() {
    let tell = Arc::new(tokio::sync::Notify::new());
    let (url, read) = keeper(Arc::clone(&tell)).await;
    let client = client_with(|_| {});
    client.send(Request::post(&url, "x")).await.ok().unwrap();
    let target = Target::parse(&url).ok().unwrap();
    let mut sender = client.0.pool.take(&target.key).unwrap();
    sender.ready().await.unwrap();
    tell.notify_one();
    while !sender.is_closed() {
        tokio::task::yield_now().await;
    }
    let message = message(Request::post(&url, "y"), &target).ok().unwrap();
    let mut phase = Phase::BeforeSend;
    let outcome = attempt(&mut sender, message, &target, &mut phase).await.ok().unwrap();
    assert!(matches!(outcome, Attempt::Unsent(..)));
    assert_eq!(phase, Phase::BeforeSend);
    assert_eq!(read.load(std::sync::atomic::Ordering::SeqCst), 1);
}

#[tokio::test]
async fn idle_connections_are_closed_by_themselves() {
    let server = serve().await;
    let client = client_with(|settings| settings.idle_timeout = Duration::from_millis(50));
    client.send(Request::post(format!("http://{}/", server.address()), "x")).await.ok().unwrap();
    let gone = async {
        while server.connections() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone).await.expect("closed");
    assert_eq!(client.0.pool.len(), 0);
}

#[tokio::test]
async fn https_checks_the_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    let pair = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(&cert, pair.cert.pem()).unwrap();
    std::fs::write(&key, pair.signing_key.serialize_pem()).unwrap();
    let mut settings = server::Settings::new(SocketAddr::from(([127, 0, 0, 1], 0)));
    settings.tls = Some(Arc::new(super::super::ServerTls::load(&cert, &key).unwrap()));
    let server = Server::start(settings, Arc::new(Echo)).await.unwrap();
    let port = server.address().port();

    let trusting = client_with(|settings| settings.extra_roots = vec![cert.clone()]);
    let answer = trusting.send(Request::post(format!("https://localhost:{port}/"), "hi")).await;
    assert_eq!(
        answer.map_err(|error| crate::base::Error::from(error).full()).map(|answer| answer.body),
        Ok("hi".into())
    );
    let wrong_name = failure(&trusting, Request::get(format!("https://127.0.0.1:{port}/"))).await;
    assert_eq!(wrong_name, (Phase::BeforeSend, Fault::Tls));
    let stranger = client_with(|_| {});
    let found = failure(&stranger, Request::get(format!("https://localhost:{port}/"))).await;
    assert_eq!(found, (Phase::BeforeSend, Fault::Tls));
}

/// Takes so many pieces, then refuses.
struct Taker {
    taken: Vec<u8>,
    refuses: bool,
}

impl Pour for Taker {
    fn pour(&mut self, piece: bytes::Bytes) -> futures_util::future::BoxFuture<'_, crate::base::Result<()>> {
        self.taken.extend_from_slice(&piece);
        let refusal = crate::base::Error::internal("full");
        Box::pin(std::future::ready(if self.refuses { Err(refusal) } else { Ok(()) }))
    }
}

#[tokio::test]
async fn an_answer_is_poured_up_to_its_cap() {
    let client = client_with(|_| {});
    let taker = || Taker { taken: Vec::new(), refuses: false };
    for (script, fault) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", Fault::Protocol),
        ("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", Fault::TooLarge),
        ("HTTP/1.1 200 OK\r\n\r\n12345678901", Fault::TooLarge),
    ] {
        let (url, _seen) = peer(vec![script]).await;
        let error = client.pour(Request::get(url), 10, &mut taker()).await.err().unwrap();
        assert_eq!(error.fault(), fault, "{script}");
    }

    let (url, _seen) = peer(vec!["HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\ngone"]).await;
    let mut into = taker();
    let Poured::Answered(answer) = client.pour(Request::get(url), 10, &mut into).await.ok().unwrap() else {
        panic!("poured a 404")
    };
    assert_eq!((answer.status.as_u16(), &answer.body[..], into.taken.len()), (404, &b"gone"[..], 0));

    let whole = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\nabc";
    let (url, _seen) = peer(vec![whole]).await;
    let Poured::Whole(media) = client.pour(Request::get(url), 3, &mut into).await.ok().unwrap() else {
        panic!("not poured")
    };
    assert_eq!((media.as_deref(), into.taken.as_slice()), (Some("text/plain"), &b"abc"[..]));

    let (url, _seen) = peer(vec![whole]).await;
    let error = client.pour(Request::get(url), 3, &mut Taker { refuses: true, ..taker() }).await.err().unwrap();
    assert_eq!(error.fault(), Fault::Taken);
    assert!(std::error::Error::source(&error).is_some_and(|reason| reason.to_string().contains("full")));
}

#[test]
fn a_missing_root_file_is_named() {
    let settings = Settings { extra_roots: vec!["/nonexistent/root.pem".into()], ..Settings::default() };
    let error = Client::new(settings).err().unwrap();
    assert!(error.to_string().contains("/nonexistent/root.pem"), "{error}");
}
