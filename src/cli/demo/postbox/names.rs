//! The name server that the demo's gateway asks about senders (RFC 1035): it knows no name, and says so at once.
//!
//! So nobody outside is asked, and no domain vouches for a mail or denies it.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::UdpSocket;

use super::PAUSE;
use crate::base::{Error, Result};

/// The largest question (section 2.3.4), and the bytes before what is asked.
const MOST_BYTES: usize = 512;
const HEAD: usize = 12;
/// An answer, without recursion, that there is no such name; then one question and no record.
const NO_SUCH_NAME: [u8; 10] = [0x81, 0x83, 0, 1, 0, 0, 0, 0, 0, 0];
/// The length of a question's type and class.
const TYPE_AND_CLASS: usize = 4;

/// Opens a socket at a free port of this machine.
///
/// # Errors
///
/// [`Kind::Io`](crate::base::Kind) if no port can be had.
pub(super) async fn open() -> Result<(UdpSocket, SocketAddr)> {
    let failed = |error| Error::io("failed to open a port for the demo's name server", error);
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(failed)?;
    let address = socket.local_addr().map_err(failed)?;
    Ok((socket, address))
}

/// Answers until aborted.
pub(super) async fn serve(socket: UdpSocket) {
    let mut buffer = [0; MOST_BYTES];
    loop {
        // Whoever asks and is gone before the answer shows as an error here, which is nobody else's.
        let Ok((length, peer)) = socket.recv_from(&mut buffer).await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        if let Some(answer) = buffer.get(..length).and_then(answer) {
            let _ = socket.send_to(&answer, peer).await;
        }
    }
}

/// The answer to a question; none if it is not one.
fn answer(question: &[u8]) -> Option<Vec<u8>> {
    let (head, rest) = question.split_at_checked(HEAD)?;
    let (id, flags) = head.split_at_checked(2)?;
    if flags.first()? & 0x80 != 0 {
        return None;
    }
    let mut length = 0_usize;
    while let Some(label @ 1..) = rest.get(length) {
        length = length.checked_add(usize::from(*label))?.checked_add(1)?;
    }
    let asked = rest.get(..length.checked_add(1 + TYPE_AND_CLASS)?)?;
    Some([id, &NO_SUCH_NAME, asked].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::dns::{Dns, Turn, Txt};
    use proptest::prelude::*;

    #[tokio::test]
    async fn no_name_is_known() {
        let (socket, address) = open().await.unwrap();
        let serving = tokio::spawn(serve(socket));
        assert_eq!(Dns::new(&[address]).txt("_dmarc.horvat.example", Turn::First).await, Txt::None);
        serving.abort();
    }

    proptest! {
        #[test]
        fn whatever_is_asked_is_answered_or_not(question in proptest::collection::vec(any::<u8>(), 0..600)) {
            if let Some(answer) = answer(&question) {
                prop_assert!(answer.len() <= question.len());
            }
        }
    }
}
