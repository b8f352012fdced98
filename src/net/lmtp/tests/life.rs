//! Clients that go away, listeners that end, and who is let in.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream};

use super::super::{Address, Drained, Listener};
use super::*;

const LOOPBACK: Address = Address::Tcp(SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0));
/// Longer than any test takes.
const LONG: Duration = Duration::from_secs(60);

async fn listen(settings: Settings, at: Address, keeper: &Arc<Keeper>) -> Listener {
    Listener::start(settings, at, Arc::clone(keeper) as Arc<dyn Deliver>).await.unwrap()
}

async fn dial(listener: &Listener) -> Client {
    match listener.address() {
        Address::Tcp(address) => Client::new(TcpStream::connect(address).await.unwrap()),
        Address::Unix { path, .. } => Client::new(UnixStream::connect(path).await.unwrap()),
    }
}

/// Waits for the first delivery to have come so far.
async fn first(count: &watch::Sender<usize>) {
    count.subscribe().wait_for(|count| *count > 0).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_within_a_content_leaves_nothing() {
    for sent in ["", "x", "x\r\n", "x\r\n.", "x\r\n.\r"] {
        let (mut served, keeper) = greeted(settings()).await;
        served.client.open("").await;
        served.client.send(sent).await;
        drop(served.client);
        served.session.await.unwrap();
        assert_eq!(*keeper.begun.borrow(), 0, "{sent:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_behind_the_end_leaves_its_mail() {
    let keeper = Keeper::holding();
    let house = House::new(settings(), &keeper);
    let mut served = house.connect();
    served.client.greet().await;
    served.client.open("").await;
    served.client.send("x\r\n.\r\n").await;
    drop(served.client);
    first(&keeper.begun).await;
    keeper.release();
    served.session.await.unwrap();
    assert_eq!(keeper.contents(), ["x\r\n"]);
}

#[tokio::test(start_paused = true)]
async fn a_delivery_outlives_its_connection() {
    let keeper = Keeper::holding();
    let house = House::new(settings(), &keeper);
    let mut served = house.connect();
    served.client.greet().await;
    served.client.open("").await;
    served.client.send("x\r\n.\r\n").await;
    first(&keeper.begun).await;
    served.stage.send_replace(Stage::Cut);
    served.session.await.unwrap();
    served.client.expect_end().await;
    keeper.release();
    house.deliveries.close();
    house.deliveries.wait().await;
    assert_eq!(keeper.contents(), ["x\r\n"]);
}

#[tokio::test]
async fn a_drain_lets_open_mails_be_finished() {
    let keeper = Arc::new(Keeper::default());
    let listener = listen(settings(), LOOPBACK, &keeper).await;
    let (mut idle, mut busy) = (dial(&listener).await, dial(&listener).await);
    idle.greet().await;
    busy.greet().await;
    busy.open("").await;
    let address = listener.address().clone();
    let drain = tokio::spawn(listener.drain(LONG));
    idle.expect(["421 4.3.2"]).await;
    idle.expect_end().await;
    drop(idle);
    busy.send("x\r\n.\r\nMAIL FROM:<>\r\n").await;
    busy.expect(["250 2.0.0", "421 4.3.2"]).await;
    busy.expect_end().await;
    drop(busy);
    assert_eq!(drain.await.unwrap(), Drained { cut: 0, delivering: 0 });
    assert_eq!(keeper.contents(), ["x\r\n"]);
    let Address::Tcp(address) = address else { panic!() };
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_drain_ends_whatever_clients_do() {
    let keeper = Keeper::holding();
    let listener = listen(settings(), LOOPBACK, &keeper).await;
    let (mut within, mut behind) = (dial(&listener).await, dial(&listener).await);
    for client in [&mut within, &mut behind] {
        client.greet().await;
        client.open("").await;
    }
    within.send("within\r\n").await;
    behind.send("behind\r\n.\r\n").await;
    first(&keeper.begun).await;
    assert_eq!(listener.drain(Duration::ZERO).await, Drained { cut: 2, delivering: 1 });
    within.expect_end().await;
    behind.expect_end().await;
    keeper.release();
    first(&keeper.ended).await;
    assert_eq!(keeper.contents(), ["behind\r\n"]);
    assert_eq!(*keeper.begun.borrow(), 1);
}

#[tokio::test]
async fn a_listener_that_is_dropped_closes_everything() {
    let keeper = Arc::new(Keeper::default());
    let listener = listen(settings(), LOOPBACK, &keeper).await;
    let mut client = dial(&listener).await;
    client.greet().await;
    client.open("").await;
    client.send("x\r\n").await;
    drop(listener);
    client.expect_end().await;
    assert_eq!(*keeper.begun.borrow(), 0);
}

#[tokio::test]
async fn connections_are_counted() {
    let keeper = Arc::new(Keeper::default());
    let listener = listen(Settings { most_connections: 2, ..settings() }, LOOPBACK, &keeper).await;
    let (mut one, mut two) = (dial(&listener).await, dial(&listener).await);
    one.greet().await;
    two.greet().await;
    assert_eq!(listener.connections(), 2);
    let mut three = dial(&listener).await;
    three.expect(["421 4.3.2"]).await;
    three.expect_end().await;
    one.say("QUIT", "221 ").await;
    one.expect_end().await;
    drop(one);
    // The place is free once the server has seen that the client is gone.
    while !dial(&listener).await.reply().await.starts_with("220 ") {}
}

#[tokio::test]
async fn others_are_turned_away() {
    let keeper = Arc::new(Keeper::default());
    let admitted = vec!["192.0.2.0/24".parse().unwrap()];
    let listener = listen(Settings { admitted, ..settings() }, LOOPBACK, &keeper).await;
    let mut client = dial(&listener).await;
    client.expect(["554 5.7.1"]).await;
    client.expect_end().await;
}

#[tokio::test]
async fn addresses_mapped_into_ipv6_are_the_same() {
    let keeper = Arc::new(Keeper::default());
    let any = Address::Tcp("[::]:0".parse().unwrap());
    let listener = listen(settings(), any, &keeper).await;
    let Address::Tcp(address) = listener.address() else { panic!() };
    let mut client = Client::new(TcpStream::connect(("127.0.0.1", address.port())).await.unwrap());
    client.greet().await;
}

#[tokio::test]
async fn a_socket_in_the_file_system() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lmtp");
    let at = Address::Unix { path: path.clone(), mode: 0o660 };
    let keeper = Arc::new(Keeper::default());
    // Left behind by a process that was killed.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let listener = listen(Settings { admitted: Vec::new(), ..settings() }, at.clone(), &keeper).await;
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    let mut client = dial(&listener).await;
    client.greet().await;
    client.open("").await;
    client.say("x\r\n.", "250 2.0.0").await;
    // One that is in use is not taken over.
    let second = Listener::start(settings(), at.clone(), Arc::clone(&keeper) as Arc<dyn Deliver>).await;
    let error = second.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    assert!(error.to_string().contains("/lmtp"), "{error}");
    client.say("NOOP", "250 2.0.0").await;
    drop(client);
    listener.drain(LONG).await;
    assert!(!path.exists());
    drop(listen(settings(), at.clone(), &keeper).await);
    assert!(!path.exists());
    // What is no socket is left alone.
    std::fs::write(&path, "mine").unwrap();
    assert!(Listener::start(settings(), at, keeper).await.is_err());
    assert_eq!(std::fs::read(&path).unwrap(), b"mine");
}

#[tokio::test]
async fn a_name_must_be_sayable() {
    for name in ["", "two words", "line\r\n", "käse"] {
        let keeper = Arc::new(Keeper::default());
        let error = Listener::start(Settings::new(name), LOOPBACK, keeper).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    }
}
