//! The root key: in a file of the operator's, apart from data, key store and backups.
//!
//! One line a key, the first one wraps, the others only open: while keys are being wrapped anew there are two.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use data_encoding::{BASE64, HEXLOWER};
use zeroize::Zeroizing;

use super::{Bytes32, Column, DataKey, KeyId, WrappedKey, random};
use crate::base::hash::sha256_parts;
use crate::base::{Error, Result, Secret};

/// What a line begins with: the format and its version.
const TAG: &str = "segue-root-1";
const COMMENT: &str =
    "# The root key of Segue. Whoever has it and the key store can read everything; without it nothing can be
# read again. Keep a copy in a safe place, apart from every backup of the data.
";

/// The name of a root key: eight bytes of its hash.
pub(in crate::store) type RootId = [u8; 8];

/// The root keys of an installation, the one that wraps first.
#[derive(Clone)]
pub struct RootKeys {
    keys: Arc<Vec<RootKey>>,
    /// The file they are from, which may change while the gateway runs.
    file: Option<PathBuf>,
}

struct RootKey {
    id: RootId,
    bytes: Bytes32,
}

impl RootKey {
    fn new(bytes: Bytes32) -> RootKey {
        let hash = sha256_parts(&[b"segue root key", bytes.as_slice()]);
        let mut id = [0; 8];
        id.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
        RootKey { id, bytes }
    }

    fn line(&self) -> Zeroizing<String> {
        let encoded = Zeroizing::new(BASE64.encode(self.bytes.as_slice()));
        Zeroizing::new(format!("{TAG} {} {}\n", HEXLOWER.encode(&self.id), *encoded))
    }
}

/// How personal data is sealed.
#[derive(Debug, Clone)]
pub struct Sealing {
    /// Where the root key is; none where sealing is off.
    file: Option<PathBuf>,
}

impl Sealing {
    /// By the root key in the file at `path`. Where there is neither a file nor a key store yet, both are made.
    pub fn at(path: impl Into<PathBuf>) -> Sealing {
        Sealing { file: Some(path.into()) }
    }

    /// Not at all: to measure what sealing costs, and for nothing else. A store that was written sealed is refused.
    pub fn off() -> Sealing {
        Sealing { file: None }
    }

    /// The root keys, or none if sealing is off; `known` is the one that the key store goes by.
    pub(super) fn roots(&self, known: Option<RootId>) -> Result<Option<RootKeys>> {
        let Some(path) = &self.file else { return Ok(None) };
        if path.exists() {
            return RootKeys::read(path).map(Some);
        }
        match known {
            None => {
                let made = RootKeys::create(path)?;
                tracing::warn!(target: "segue::journal", path = %path.display(), "a root key was made; keep a copy of it apart from every backup");
                Ok(Some(made))
            }
            Some(root) => Err(Error::config(format!(
                "there is no root key; the key store goes by root key {}: put its file here, or name it in SEGUE_ROOT_KEY_FILE",
                HEXLOWER.encode(&root)
            ))
            .context(path.display().to_string())),
        }
    }
}

impl RootKeys {
    /// Reads the file at `path`.
    ///
    /// # Errors
    ///
    /// `Config` if there is none, if others may read it, or if it holds no root key.
    pub fn read(path: &Path) -> Result<RootKeys> {
        let place = || path.display().to_string();
        let metadata = match std::fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::config("there is no root key").context(place()));
            }
            Err(error) => return Err(Error::config("the root key cannot be read").because(error).context(place())),
        };
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            let reason = format!("the root key may be read by others (mode {mode:04o}); `chmod 600` it");
            return Err(Error::config(reason).context(place()));
        }
        let text = std::fs::read_to_string(path)
            .map(Secret::new)
            .map_err(|e| Error::config("the root key cannot be read").because(e).context(place()))?;
        let keys = Self::parse(text.expose()).map_err(|e| e.context(place()))?;
        Ok(RootKeys { keys: Arc::new(keys), file: Some(path.to_owned()) })
    }

    fn parse(text: &str) -> Result<Vec<RootKey>> {
        let mut keys = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = || Error::config(format!("line {} is no root key", number + 1));
            let mut words = line.split_whitespace();
            let (Some(TAG), Some(id), Some(encoded), None) = (words.next(), words.next(), words.next(), words.next())
            else {
                return Err(wrong());
            };
            let decoded = Zeroizing::new(BASE64.decode(encoded.as_bytes()).map_err(|_| wrong())?);
            let bytes: [u8; 32] = decoded.as_slice().try_into().map_err(|_| wrong())?;
            let key = RootKey::new(Zeroizing::new(bytes));
            if HEXLOWER.encode(&key.id) != id {
                return Err(Error::config(format!(
                    "the root key in line {} is damaged: it has another name",
                    number + 1
                )));
            }
            keys.push(key);
        }
        if keys.is_empty() { Err(Error::config("the file holds no root key")) } else { Ok(keys) }
    }

    /// No key at all, for where sealing is off.
    pub(super) fn none() -> RootKeys {
        RootKeys { keys: Arc::default(), file: None }
    }

    /// Makes a new root key and a file of mode 0600 for it, in a folder that is made if need be.
    ///
    /// # Errors
    ///
    /// `Io` if the file is there already or cannot be written.
    pub fn create(path: &Path) -> Result<RootKeys> {
        let keys = RootKeys { keys: Arc::new(vec![fresh()?]), file: Some(path.to_owned()) };
        write_new(path, &keys.text()).map_err(|e| e.context(path.display().to_string()))?;
        Ok(keys)
    }

    /// With a new root key before those that there are, written to the file before it is used.
    ///
    /// # Errors
    ///
    /// `Io` if the file cannot be replaced.
    pub fn with_new(&self) -> Result<RootKeys> {
        let old = self.keys.iter().map(|key| RootKey::new(key.bytes.clone()));
        let keys = std::iter::once(Ok(fresh()?)).chain(old.map(Ok)).collect::<Result<Vec<_>>>()?;
        self.replaced(keys)
    }

    /// With the first key only: the others wrap nothing any more.
    ///
    /// # Errors
    ///
    /// `Io` if the file cannot be replaced.
    pub fn without_old(&self) -> Result<RootKeys> {
        self.replaced(self.keys.iter().take(1).map(|key| RootKey::new(key.bytes.clone())).collect())
    }

    fn replaced(&self, keys: Vec<RootKey>) -> Result<RootKeys> {
        let next = RootKeys { keys: Arc::new(keys), file: self.file.clone() };
        if let Some(path) = &self.file {
            let beside = path.with_extension("new");
            let _ = std::fs::remove_file(&beside);
            write_new(&beside, &next.text())?;
            std::fs::rename(&beside, path)
                .and_then(|()| sync_parent(path))
                .map_err(|e| Error::io("the root key cannot be replaced", e).context(path.display().to_string()))?;
        }
        Ok(next)
    }

    /// The keys as the file holds them now, if they are from a file.
    pub(super) fn again(&self) -> Result<RootKeys> {
        self.file.as_deref().map_or_else(|| Ok(self.clone()), RootKeys::read)
    }

    fn text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(COMMENT.to_owned());
        self.keys.iter().for_each(|key| text.push_str(&key.line()));
        text
    }

    /// How many keys there are: two while a rotation is under way.
    pub fn count(&self) -> usize {
        self.keys.len()
    }

    /// The name of the key that wraps, as people see it.
    pub fn name(&self) -> String {
        HEXLOWER.encode(&self.newest())
    }

    pub(in crate::store) fn newest(&self) -> RootId {
        self.keys.first().map(|key| key.id).unwrap_or_default()
    }

    pub(super) fn knows(&self, root: &RootId) -> bool {
        self.keys.iter().any(|key| key.id == *root)
    }

    fn find(&self, root: &RootId) -> Result<&RootKey> {
        self.keys.iter().find(|key| key.id == *root).ok_or_else(|| {
            let name = HEXLOWER.encode(root);
            Error::config(format!("the key store is wrapped by root key {name}, which the root key file does not hold"))
        })
    }

    /// Wraps a key by one of the root keys.
    pub(in crate::store) fn wrap(&self, by: RootId, id: KeyId, key: &[u8; 32]) -> Result<WrappedKey> {
        let root = self.find(&by)?;
        let bytes = DataKey::new(&root.bytes)?.seal(id, Column::Key, &[], key)?;
        Ok(WrappedKey { root: root.id, bytes })
    }

    /// Unwraps a key.
    pub(in crate::store) fn unwrap(&self, wrapped: &WrappedKey) -> Result<Bytes32> {
        let root = self.find(&wrapped.root)?;
        let bytes = Zeroizing::new(DataKey::new(&root.bytes)?.open(Column::Key, &[], &wrapped.bytes)?);
        let bytes: [u8; 32] = bytes.as_slice().try_into().map_err(|_| super::damaged(Column::Key))?;
        Ok(Zeroizing::new(bytes))
    }
}

impl std::fmt::Debug for RootKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RootKeys({})", self.name())
    }
}

fn fresh() -> Result<RootKey> {
    Ok(RootKey::new(Zeroizing::new(random::bytes()?)))
}

fn write_new(path: &Path, text: &str) -> Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|e| Error::io("the folder of the root key cannot be made", e))?;
    }
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
        .and_then(|()| sync_parent(path));
    written.map_err(|e| Error::io("the root key cannot be written", e))
}

fn sync_parent(path: &Path) -> std::io::Result<()> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::File::open(parent)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_comes_back_as_it_was_written_and_only_for_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("root.key");
        let made = RootKeys::create(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(RootKeys::create(&path).is_err(), "a root key is never overwritten");
        let wrapped = made.wrap(made.newest(), KeyId::HOUSE, &[9; 32]).unwrap();
        assert_eq!(*RootKeys::read(&path).unwrap().unwrap(&wrapped).unwrap(), [9; 32]);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let error = RootKeys::read(&path).unwrap_err();
        assert!(error.full().contains("mode 0640"), "{}", error.full());
    }

    #[test]
    fn a_rotation_keeps_the_old_key_until_it_is_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("root.key");
        let old = RootKeys::create(&path).unwrap();
        let wrapped = old.wrap(old.newest(), KeyId::INDEX, &[1; 32]).unwrap();
        let both = old.with_new().unwrap();
        assert_eq!((both.count(), both.newest() == old.newest()), (2, false));
        assert_eq!(*RootKeys::read(&path).unwrap().unwrap(&wrapped).unwrap(), [1; 32]);
        let new = both.without_old().unwrap();
        assert_eq!(RootKeys::read(&path).unwrap().count(), 1);
        assert!(new.unwrap(&wrapped).unwrap_err().full().contains(&old.name()));
    }

    #[test]
    fn a_damaged_line_is_told_with_its_number_and_never_shown() {
        let key = RootKey::new(Zeroizing::new([7; 32]));
        let line = key.line();
        let damaged = line.replace("BwcH", "BwcI");
        for text in ["", "# nothing\n", "segue-root-1 aa bb\n", "nonsense\n", damaged.as_str()] {
            let error = RootKeys::parse(text).err().unwrap();
            assert!(!error.full().contains("BwcI"), "{}", error.full());
        }
        assert!(RootKeys::parse(&line).is_ok());
    }
}
