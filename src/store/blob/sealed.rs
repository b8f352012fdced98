//! How content is sealed: the STREAM construction over AES-256-GCM.
//!
//! An object is a header and chunks. The header is the version (1 byte), the nonce prefix (7 random bytes), the length of
//! the wrapped key (2 bytes, big endian) and the wrapped key. Each chunk but the last is the seal of exactly [`CHUNK`]
//! bytes; the last may be shorter or empty. The nonce of a chunk is the prefix, its number (4 bytes, big endian) and 1 if it
//! is the last, else 0 (Hoang, Reyhanitabar, Rogaway and Vizár, "Online Authenticated-Encryption and its Nonce-Reuse
//! Misuse-Resistance", CRYPTO 2015). The associated data is the object's name and the header.
//!
//! The invariant: no byte comes out that was not put in at this very place of this very object. Cutting, adding,
//! reordering and swapping, also between objects, is found.

use bytes::Bytes;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::Zeroizing;

use super::Object;
use crate::base::{Error, Kind, Result};
use crate::store::seal::random;

/// How many bytes are sealed at once.
pub const CHUNK: usize = 64 * 1024;
/// What sealing adds to a chunk.
const TAG: usize = 16;
/// A whole chunk as it is stored.
pub(super) const SEALED_CHUNK: usize = CHUNK + TAG;
/// The version of the format.
const VERSION: u8 = 1;
const PREFIX: usize = 7;
/// The part of the header before the wrapped key.
const FIXED: usize = 1 + PREFIX + 2;
/// The longest wrapped key.
const MOST_WRAPPED: usize = 4096;

/// The key of one object.
pub(super) type Key = Zeroizing<[u8; 32]>;

/// Key, nonces and associated data of one object.
struct Chunks {
    key: LessSafeKey,
    prefix: [u8; PREFIX],
    next: u32,
    bound: Vec<u8>,
}

impl Chunks {
    fn new(key: &Key, prefix: [u8; PREFIX], object: Object, header: &[u8]) -> Result<Self> {
        let key = UnboundKey::new(&AES_256_GCM, key.as_slice()).map_err(|_| Error::internal("not a key"))?;
        let bound = [object.0.as_slice(), header].concat();
        Ok(Chunks { key: LessSafeKey::new(key), prefix, next: 0, bound })
    }

    fn nonce(&mut self, last: bool) -> Result<Nonce> {
        let number = self.next;
        self.next = number.checked_add(1).ok_or_else(|| Error::new(Kind::Limit, "a file has too many chunks"))?;
        let bytes = self.prefix.iter().copied().chain(number.to_be_bytes()).chain([u8::from(last)]);
        let mut nonce = [0; NONCE_LEN];
        nonce.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
        Ok(Nonce::assume_unique_for_key(nonce))
    }
}

/// Seals content as it comes.
pub(super) struct Sealer {
    chunks: Chunks,
    /// What does not fill a chunk yet. A full one waits for the next byte, which shows that it is not the last.
    waiting: Zeroizing<Vec<u8>>,
}

impl Sealer {
    /// Begins an object: what it starts with, and what seals the rest.
    pub(super) fn begin(key: &Key, object: Object, wrapped: &[u8]) -> Result<(Sealer, Vec<u8>)> {
        let length = u16::try_from(wrapped.len()).ok().filter(|_| wrapped.len() <= MOST_WRAPPED);
        let length = length.ok_or_else(|| Error::internal("a wrapped key is too long"))?;
        let prefix: [u8; PREFIX] = random::bytes()?;
        let header = [&[VERSION], prefix.as_slice(), &length.to_be_bytes(), wrapped].concat();
        let chunks = Chunks::new(key, prefix, object, &header)?;
        Ok((Sealer { chunks, waiting: Zeroizing::new(Vec::with_capacity(CHUNK)) }, header))
    }

    /// Seals `content` onto the end of `out`, but for what may be the last chunk.
    pub(super) fn push(&mut self, mut content: &[u8], out: &mut Vec<u8>) -> Result<()> {
        while !content.is_empty() {
            if self.waiting.len() == CHUNK {
                self.seal(false, out)?;
            }
            let room = CHUNK.saturating_sub(self.waiting.len()).min(content.len());
            let (now, later) = content.split_at_checked(room).unwrap_or((content, &[]));
            self.waiting.extend_from_slice(now);
            content = later;
        }
        Ok(())
    }

    /// Seals the last chunk.
    pub(super) fn finish(mut self, out: &mut Vec<u8>) -> Result<()> {
        self.seal(true, out)
    }

    fn seal(&mut self, last: bool, out: &mut Vec<u8>) -> Result<()> {
        let nonce = self.chunks.nonce(last)?;
        let aad = Aad::from(self.chunks.bound.as_slice());
        let tag = self.chunks.key.seal_in_place_separate_tag(nonce, aad, &mut self.waiting);
        let tag = tag.map_err(|_| Error::internal("a chunk could not be sealed"))?;
        out.extend_from_slice(&self.waiting);
        out.extend_from_slice(tag.as_ref());
        self.waiting.clear();
        Ok(())
    }
}

/// The beginning of an object.
pub(super) struct Header {
    bytes: Vec<u8>,
    prefix: [u8; PREFIX],
}

impl Header {
    /// Takes the header off the beginning of an object.
    pub(super) fn take(from: &mut Bytes) -> Result<Header> {
        let known = from.first() == Some(&VERSION);
        let prefix = from.get(1..FIXED - 2).and_then(|prefix| <[u8; PREFIX]>::try_from(prefix).ok());
        let length = from.get(FIXED - 2..FIXED).and_then(|length| <[u8; 2]>::try_from(length).ok());
        let (true, Some(prefix), Some(length)) = (known, prefix, length) else { return Err(damaged()) };
        let end = FIXED + usize::from(u16::from_be_bytes(length));
        if end > FIXED + MOST_WRAPPED || end > from.len() {
            return Err(damaged());
        }
        Ok(Header { bytes: from.split_to(end).to_vec(), prefix })
    }

    /// The wrapped key.
    pub(super) fn wrapped(&self) -> &[u8] {
        self.bytes.get(FIXED..).unwrap_or_default()
    }
}

/// Opens an object chunk by chunk.
pub(super) struct Opener {
    chunks: Chunks,
}

impl Opener {
    pub(super) fn begin(key: &Key, object: Object, header: &Header) -> Result<Opener> {
        Ok(Opener { chunks: Chunks::new(key, header.prefix, object, &header.bytes)? })
    }

    /// The content of the next chunk; `last` is whether the object ends with it.
    pub(super) fn open(&mut self, sealed: &[u8], last: bool) -> Result<Bytes> {
        if !last && sealed.len() != SEALED_CHUNK {
            return Err(damaged());
        }
        let nonce = self.chunks.nonce(last)?;
        let mut chunk = sealed.to_vec();
        let length = self.chunks.key.open_in_place(nonce, Aad::from(self.chunks.bound.as_slice()), &mut chunk);
        let length = length.map_err(|_| damaged())?.len();
        chunk.truncate(length);
        Ok(chunk.into())
    }
}

/// The error of a file that is not what was stored.
pub(super) fn damaged() -> Error {
    Error::internal("a stored file is damaged or was changed; restore it from a backup")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    const OBJECT: Object = Object([7; 16]);

    fn key() -> Key {
        Key::new([9; 32])
    }

    pub(in crate::store::blob) fn seal(content: &[u8], pieces: usize) -> Vec<u8> {
        let (mut sealer, mut out) = Sealer::begin(&key(), OBJECT, b"wrapped").unwrap();
        for piece in content.chunks(pieces.max(1)) {
            sealer.push(piece, &mut out).unwrap();
        }
        sealer.finish(&mut out).unwrap();
        out
    }

    fn open_as(object: Object, sealed: &[u8]) -> Result<Vec<u8>> {
        let mut rest = Bytes::copy_from_slice(sealed);
        let header = Header::take(&mut rest)?;
        let mut opener = Opener::begin(&key(), object, &header)?;
        let mut content = Vec::new();
        loop {
            let last = rest.len() <= SEALED_CHUNK;
            let chunk = rest.split_to(rest.len().min(SEALED_CHUNK));
            content.extend_from_slice(&opener.open(&chunk, last)?);
            if last {
                return Ok(content);
            }
        }
    }

    fn open(sealed: &[u8]) -> Result<Vec<u8>> {
        open_as(OBJECT, sealed)
    }

    fn content(length: usize) -> Vec<u8> {
        (0..length).map(|at| (at % 251) as u8).collect()
    }

    /// Lengths around the bounds of chunks.
    fn lengths() -> impl Strategy<Value = usize> {
        prop_oneof![
            0usize..100,
            (0usize..4, 0usize..5).prop_map(|(chunks, more)| (chunks * CHUNK + more).saturating_sub(2)),
            0usize..3 * CHUNK,
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn any_length_in_any_pieces_comes_back(length in lengths(), pieces in 1usize..100_000) {
            let content = content(length);
            let sealed = seal(&content, pieces);
            prop_assert_eq!(sealed.len(), FIXED + 7 + length + TAG * length.div_ceil(CHUNK).max(1));
            prop_assert!(open(&sealed).unwrap() == content);
        }

        #[test]
        fn a_flipped_bit_is_found(length in lengths(), place: prop::sample::Index, bit in 0u8..8) {
            let mut sealed = seal(&content(length), 1000);
            let at = place.index(sealed.len());
            sealed[at] ^= 1 << bit;
            prop_assert!(open(&sealed).is_err());
        }

        #[test]
        fn a_cut_is_found(length in lengths(), place: prop::sample::Index) {
            let sealed = seal(&content(length), 1000);
            prop_assert!(open(&sealed[..place.index(sealed.len())]).is_err());
        }

        #[test]
        fn what_is_added_is_found(length in lengths(), more in 1usize..70_000) {
            let mut sealed = seal(&content(length), 1000);
            sealed.extend(content(more));
            prop_assert!(open(&sealed).is_err());
        }

        #[test]
        fn swapped_repeated_and_left_out_chunks_are_found(chunks in 2usize..5, a in 0usize..4, b in 0usize..4) {
            let sealed = seal(&content(chunks * CHUNK + 5), 1000);
            let (head, body) = sealed.split_at(FIXED + 7);
            let (a, b) = (a % chunks, b % chunks);
            let chunk = |no: usize| body[no * SEALED_CHUNK..(no + 1) * SEALED_CHUNK].to_vec();
            let mut swapped = body.to_vec();
            swapped[a * SEALED_CHUNK..(a + 1) * SEALED_CHUNK].copy_from_slice(&chunk(b));
            prop_assert_eq!(open(&[head, &swapped].concat()).is_ok(), a == b);
            let mut without = body.to_vec();
            without.drain(a * SEALED_CHUNK..(a + 1) * SEALED_CHUNK);
            prop_assert!(open(&[head, &without].concat()).is_err());
        }

        #[test]
        fn bytes_of_anybody_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(open(&bytes).is_err());
        }
    }

    #[test]
    fn ends_at_a_chunk_cannot_be_moved() {
        let sealed = seal(&content(2 * CHUNK), 1000);
        assert!(open(&sealed[..sealed.len() - SEALED_CHUNK]).is_err());
        assert!(open(&sealed[..FIXED + 7]).is_err());
    }

    #[test]
    fn another_objects_content_is_not_taken() {
        let sealed = seal(b"mine", 1);
        assert!(open_as(Object([8; 16]), &sealed).is_err());
        assert_eq!(open(&sealed).unwrap(), b"mine");
    }
}
