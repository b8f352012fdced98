//! Blobs in a folder, over the tables of SQLite.

use std::path::Path;

use futures_util::{TryStreamExt, stream};

use super::*;
use crate::store::{BlobUse, Claim, Store};

/// Wraps by masking with a fixed key, and names under another one.
struct FixedKeys;

const MASK: u8 = 0x5c;

impl BlobKeys for FixedKeys {
    fn wrap(&self, _customer: Option<i64>, key: &[u8; 32]) -> BoxFuture<'_, Result<Vec<u8>>> {
        let wrapped = key.iter().map(|byte| byte ^ MASK).collect();
        Box::pin(std::future::ready(Ok(wrapped)))
    }

    fn unwrap(&self, wrapped: &[u8]) -> BoxFuture<'_, Result<Zeroizing<[u8; 32]>>> {
        let key: Vec<u8> = wrapped.iter().map(|byte| byte ^ MASK).collect();
        let key = key.try_into().map(Zeroizing::new).map_err(|_| sealed::damaged());
        Box::pin(std::future::ready(key))
    }

    fn name(&self, customer: Option<i64>, content: &[u8; 32]) -> Result<[u8; 32]> {
        Ok(named(&hmac::Key::new(hmac::HMAC_SHA256, b"names"), customer, content))
    }
}

struct Scene {
    blobs: Blobs,
    store: Store,
    folder: tempfile::TempDir,
    _guard: Arc<dyn std::any::Any + Send + Sync>,
}

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000 + millis)
}

fn content(seed: u8, length: usize) -> Vec<u8> {
    (0..length).map(|place| (place % 249) as u8 ^ seed).collect()
}

impl Scene {
    fn new() -> Scene {
        let folder = tempfile::tempdir().unwrap();
        let opened = crate::store::suite::opened(&folder.path().join("data"));
        let store = opened.store;
        let blobs =
            Blobs::in_folder(&folder.path().join("a/b/blobs"), Arc::new(FixedKeys), store.blobs.clone()).unwrap();
        Scene { blobs, store, folder, _guard: opened.guard }
    }

    async fn put(&self, customer: Option<i64>, content: &[u8]) -> Result<Stored> {
        let pieces: Vec<_> = content.chunks(10_001).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        self.blobs.put(customer, 2 << 20, at(0), stream::iter(pieces)).await
    }

    async fn read(&self, name: BlobName) -> Result<Vec<u8>> {
        let found = self.blobs.get(name).await?.ok_or_else(|| Error::not_found("no blob"))?;
        collect(found.open().await?, usize::MAX).await
    }

    fn files(&self) -> Vec<std::path::PathBuf> {
        files(&self.folder.path().join("a/b/blobs"))
    }

    async fn rows(&self, table: &str) -> i64 {
        self.store.catalog.counts().await.unwrap()[table]
    }
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[tokio::test]
async fn what_is_put_comes_back_whatever_its_size() {
    let scene = Scene::new();
    // Around chunks, parts and ranges.
    let sizes = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 4 * CHUNK, 262_144, 262_200, 1 << 20, (1 << 20) + 70_000];
    for (seed, size) in sizes.into_iter().enumerate() {
        let content = content(seed as u8, size);
        let stored = scene.put(Some(7), &content).await.unwrap();
        assert_eq!((stored.size, stored.known), (size as u64, false));
        assert!(scene.read(stored.name).await.unwrap() == content, "{size}");
        let found = scene.blobs.get(stored.name).await.unwrap().unwrap();
        assert_eq!((found.size(), found.name()), (size as u64, stored.name));
        assert_eq!(stored.name.to_string().parse::<BlobName>().unwrap(), stored.name);
    }
    assert_eq!((scene.rows("blob").await, scene.rows("loose").await), (sizes.len() as i64, 0));
    let listed: Vec<Listed> = scene.blobs.objects.list().try_collect().await.unwrap();
    assert_eq!((listed.len(), scene.files().len()), (sizes.len(), sizes.len()));
    assert!(listed.iter().all(|listed| listed.size > 0 && listed.at > at(0)));
}

#[tokio::test]
async fn a_customers_file_is_stored_once_and_tells_nobody_what_it_is() {
    let scene = Scene::new();
    let content = content(1, 300_000);
    let first = scene.put(Some(1), &content).await.unwrap();
    let again = scene.put(Some(1), &content).await.unwrap();
    assert_eq!((again.name, again.known, scene.files().len(), scene.rows("loose").await), (first.name, true, 1, 0));
    let sha512 = HEXLOWER.encode(ring::digest::digest(&ring::digest::SHA512, &content).as_ref());
    assert_eq!((&first.sha512, &again.sha512), (&sha512, &sha512));
    let (other, nobody) = (scene.put(Some(2), &content).await.unwrap(), scene.put(None, &content).await.unwrap());
    let zero = scene.put(Some(0), &content).await.unwrap();
    let names: std::collections::BTreeSet<_> = [first.name, other.name, nobody.name, zero.name].into();
    assert_eq!((names.len(), scene.files().len()), (4, 4));
    for file in scene.files() {
        let stored = std::fs::read(&file).unwrap();
        assert!(!stored.windows(32).any(|window| window == &content[..32]), "{}", file.display());
        let path = file.to_string_lossy().into_owned();
        assert!(!names.iter().any(|name| path.contains(&name.to_string()[..16])), "{path}");
    }
}

#[tokio::test]
async fn too_much_leaves_nothing() {
    let scene = Scene::new();
    for size in [(2 << 20) + 1, 3 << 20] {
        let error = scene.put(Some(1), &content(0, size)).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Limit);
    }
    assert_eq!((scene.files().len(), scene.rows("loose").await, scene.rows("blob").await), (0, 0, 0));
    let broken = stream::iter([Ok(content(0, 400_000).into()), Err(Error::internal("broke off"))]);
    assert!(scene.blobs.put(None, 1 << 20, at(0), broken).await.is_err());
    assert_eq!((scene.files().len(), scene.rows("loose").await), (0, 0));
}

#[tokio::test]
async fn what_was_changed_on_disk_is_not_given_out() {
    let scene = Scene::new();
    let content = content(3, 2 * CHUNK + 100);
    let stored = scene.put(Some(1), &content).await.unwrap();
    let other = scene.put(Some(2), &content).await.unwrap();
    let files = scene.files();
    let originals: Vec<Vec<u8>> = files.iter().map(|file| std::fs::read(file).unwrap()).collect();
    let damage: [&dyn Fn(usize) -> Vec<u8>; 5] = [
        &|file| originals[file][..originals[file].len() - 1].to_vec(),
        &|file| originals[file][..CHUNK].to_vec(),
        &|file| [originals[file].as_slice(), &[0]].concat(),
        &|file| originals[1 - file].clone(),
        &|_| Vec::new(),
    ];
    for damaged in damage {
        for (file, path) in files.iter().enumerate() {
            std::fs::write(path, damaged(file)).unwrap();
        }
        assert!(scene.read(stored.name).await.is_err() && scene.read(other.name).await.is_err());
    }
    std::fs::write(&files[0], &originals[0]).unwrap();
    std::fs::write(&files[1], &originals[1]).unwrap();
    assert!(scene.read(stored.name).await.unwrap() == content);
    files.iter().for_each(|file| std::fs::remove_file(file).unwrap());
    assert_eq!(scene.read(stored.name).await.unwrap_err().kind(), Kind::NotFound);
}

#[tokio::test]
async fn garbage_goes_and_what_is_named_stays() {
    let scene = Scene::new();
    let named = scene.put(Some(1), &content(1, 1000)).await.unwrap().name;
    let garbage = scene.put(Some(1), &content(2, 1000)).await.unwrap().name;
    scene.blobs.rows().adopt(BlobUse { interaction: 5, part: 1, name: named }).await.unwrap();
    assert_eq!(scene.blobs.collect(at(0), 10).await.unwrap(), 0);
    assert_eq!(scene.blobs.collect(at(1), 10).await.unwrap(), 1);
    assert_eq!(scene.blobs.collect(at(1), 10).await.unwrap(), 0);
    assert!(scene.blobs.get(garbage).await.unwrap().is_none());
    assert!(scene.read(named).await.is_ok());
    assert_eq!((scene.files().len(), scene.rows("loose").await), (1, 0));
    // Found by what the part says, or by where it is.
    for id in [named.to_string(), "0".repeat(64), String::new()] {
        assert_eq!(scene.blobs.of_part(5, 1, &id).await.unwrap().unwrap().name(), named);
    }
    assert!(scene.blobs.of_part(5, 2, "").await.unwrap().is_none());
    assert!(scene.blobs.delete(named).await.unwrap() && !scene.blobs.delete(named).await.unwrap());
    assert_eq!((scene.files().len(), scene.rows("blob").await, scene.rows("blob_use").await), (0, 0, 0));
    // The same content may come again.
    assert!(!scene.put(Some(1), &content(2, 1000)).await.unwrap().known);
}

#[tokio::test]
async fn what_a_crash_left_is_collected_when_it_is_old() {
    let scene = Scene::new();
    let mut writing = scene.blobs.begin(Some(1), 1 << 30).await.unwrap();
    writing.push(&content(1, 1 << 20), at(0)).await.unwrap();
    // As after a crash, nothing is taken away: neither row nor file.
    std::mem::forget(writing);
    assert_eq!((scene.files().len(), scene.rows("loose").await), (1, 1));
    assert_eq!(scene.blobs.collect(at(0), 10).await.unwrap(), 0);
    assert_eq!((scene.files().len(), scene.rows("loose").await), (1, 1));
    assert_eq!(scene.blobs.collect(at(1), 10).await.unwrap(), 1);
    assert_eq!((scene.files().len(), scene.rows("loose").await), (0, 0));
}

#[tokio::test]
async fn a_file_that_took_too_long_gets_no_name() {
    let scene = Scene::new();
    let mut writing = scene.blobs.begin(Some(1), 1 << 30).await.unwrap();
    writing.push(&content(1, 1 << 20), at(0)).await.unwrap();
    // The collector has listed the object and is about to delete it: it must not get a name any more.
    let doomed = scene.blobs.rows().condemn(at(1), 10).await.unwrap();
    assert_eq!(doomed.len(), 1);
    assert_eq!(writing.finish(at(2)).await.unwrap_err().kind(), Kind::Conflict);
    assert_eq!((scene.rows("blob").await, scene.rows("loose").await), (0, 1));
    assert_eq!(scene.blobs.collect(at(1), 10).await.unwrap(), 1);
    assert_eq!((scene.files().len(), scene.rows("loose").await), (0, 0));
}

#[tokio::test]
async fn many_at_once_agree_on_one_object() {
    let scene = Arc::new(Scene::new());
    let puts = (0..8).map(|_| {
        let scene = scene.clone();
        tokio::spawn(async move { scene.put(Some(1), &content(9, 500_000)).await.unwrap() })
    });
    let stored: Vec<Stored> = futures_util::future::join_all(puts).await.into_iter().map(|put| put.unwrap()).collect();
    assert!(stored.iter().all(|other| other.name == stored[0].name));
    assert_eq!(stored.iter().filter(|stored| !stored.known).count(), 1);
    assert_eq!((scene.files().len(), scene.rows("blob").await, scene.rows("loose").await), (1, 1, 0));
    assert!(scene.read(stored[0].name).await.unwrap() == content(9, 500_000));
}

/// The tables' part of it, for every backend.
pub(in crate::store) async fn rows_lead_to_objects(rows: &Arc<dyn BlobRows>) {
    let row = |name: u8, object: u8, made: i64| BlobRow {
        name: BlobName([name; 32]),
        object: Object([object; 16]),
        customer: (name == 1).then_some(3),
        size: 9,
        made_at: at(made),
    };
    let (a, b) = (Object([1; 16]), Object([2; 16]));
    assert_eq!(rows.claim(row(1, 1, 0)).await.unwrap(), Claim::Gone);
    rows.announce(a, at(0)).await.unwrap();
    rows.announce(b, at(0)).await.unwrap();
    assert_eq!(rows.claim(row(1, 1, 0)).await.unwrap(), Claim::Ours);
    // The same call again, as after a lost answer.
    assert_eq!(rows.claim(row(1, 1, 0)).await.unwrap(), Claim::Ours);
    assert_eq!(rows.blob(BlobName([1; 32])).await.unwrap(), Some(row(1, 1, 0)));
    // A second copy makes the first one young and stays loose.
    assert_eq!(rows.claim(row(1, 2, 50)).await.unwrap(), Claim::Known);
    assert_eq!(rows.blob(BlobName([1; 32])).await.unwrap(), Some(row(1, 1, 50)));
    assert_eq!(rows.condemn(at(50), 9).await.unwrap(), [b]);
    assert_eq!(rows.claim(row(2, 2, 60)).await.unwrap(), Claim::Gone);
    rows.forget(vec![b]).await.unwrap();
    let used = BlobUse { interaction: 70, part: 2, name: BlobName([1; 32]) };
    rows.adopt(used).await.unwrap();
    rows.adopt(used).await.unwrap();
    assert_eq!(rows.used_by(70, 2).await.unwrap(), Some(used.name));
    assert_eq!(rows.used_by(70, 1).await.unwrap(), None);
    assert!(rows.condemn(at(1000), 9).await.unwrap().is_empty());
    assert_eq!(rows.drop_blob(used.name).await.unwrap(), Some(a));
    assert_eq!((rows.drop_blob(used.name).await.unwrap(), rows.used_by(70, 2).await.unwrap()), (None, None));
    assert_eq!(rows.condemn(at(-1000), 9).await.unwrap(), [a]);
    rows.forget(vec![a]).await.unwrap();
    for (name, object) in [(3, 3), (4, 4), (5, 5)] {
        rows.announce(Object([object; 16]), at(1)).await.unwrap();
        assert_eq!(rows.claim(row(name, object, i64::from(name))).await.unwrap(), Claim::Ours);
    }
    // The oldest first, and no more than asked for.
    assert_eq!(rows.condemn(at(1000), 2).await.unwrap().len(), 2);
    assert!(rows.blob(BlobName([5; 32])).await.unwrap().is_some());
    rows.forget([3, 4].map(|object| Object([object; 16])).to_vec()).await.unwrap();
    assert_eq!(rows.condemn(at(1000), 2).await.unwrap(), [Object([5; 16])]);
    rows.forget(vec![Object([5; 16])]).await.unwrap();
    assert!(rows.condemn(at(1000), 2).await.unwrap().is_empty());
}
