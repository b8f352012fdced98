//! Where a store is, as a command names it.

use std::path::PathBuf;

use super::{Target, View};
use crate::base::{Error, Result, Secret};
use crate::store::seal::KeyChest;
use crate::store::{postgres, sqlite};

/// A data directory, or a database of PostgreSQL.
#[derive(Clone)]
pub enum Place {
    /// SQLite in this folder.
    Folder(PathBuf),
    /// PostgreSQL there.
    Server(Box<postgres::Place>),
}

/// Kept as long as no gateway may use a store.
pub enum Quiet {
    /// The lock of a data directory.
    Folder(sqlite::Locked),
    /// The lock of a database.
    Server(Box<postgres::archive::Quiet>),
}

impl Place {
    /// Reads `text`: the URL of a PostgreSQL database, `file:` and the path of a file that holds one, or else the path of a
    /// data directory.
    ///
    /// # Errors
    ///
    /// `NotFound` if the file cannot be read, `Config` if the URL is none.
    pub fn parse(text: &str) -> Result<Place> {
        let url = match text.strip_prefix("file:") {
            Some(path) => {
                let read = std::fs::read_to_string(path);
                read.map_err(|e| Error::not_found(format!("the file `{path}` cannot be read")).because(e))?
            }
            None => text.to_owned(),
        };
        let url = url.trim();
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            return postgres::Place::parse(&Secret::new(url)).map(Box::new).map(Place::Server);
        }
        match text.strip_prefix("file:") {
            Some(path) => Err(Error::config(format!("the file `{path}` holds no URL of PostgreSQL"))),
            None => Ok(Place::Folder(PathBuf::from(text))),
        }
    }

    /// The place as a message may name it.
    pub fn shown(&self) -> String {
        match self {
            Place::Folder(folder) => format!("data directory {}", folder.display()),
            Place::Server(server) => server.shown(),
        }
    }

    /// The store as of now, whether or not a gateway runs on it.
    ///
    /// # Errors
    ///
    /// `NotFound` if there is none; else if it cannot be opened.
    pub async fn view(&self) -> Result<Box<dyn View>> {
        match self {
            Place::Folder(folder) => sqlite::archive::view(folder),
            Place::Server(server) => postgres::archive::view(server).await,
        }
    }

    /// Its key store; with `create`, made if there is none.
    ///
    /// # Errors
    ///
    /// `NotFound` if there is none; else if it cannot be opened.
    pub async fn chest(&self, create: bool) -> Result<KeyChest> {
        match self {
            Place::Folder(folder) => sqlite::key_chest(folder, create),
            Place::Server(server) => postgres::key_chest(server).await,
        }
    }

    /// Keeps gateways off it.
    ///
    /// # Errors
    ///
    /// `Config` if one uses it.
    pub async fn quiet(&self) -> Result<Quiet> {
        match self {
            Place::Folder(folder) if !folder.is_dir() => {
                Err(Error::not_found(format!("no data at `{}`: no gateway has run there yet", folder.display())))
            }
            Place::Folder(folder) => sqlite::archive::quiet(folder).map(Quiet::Folder),
            Place::Server(server) => postgres::archive::quiet(server).await.map(Box::new).map(Quiet::Server),
        }
    }

    /// The store to be filled, made if there is none; no gateway may use it meanwhile.
    ///
    /// # Errors
    ///
    /// `Config` if one does; else if it cannot be opened.
    pub async fn target(&self) -> Result<Box<dyn Target>> {
        match self {
            Place::Folder(folder) => sqlite::archive::target(folder).await,
            Place::Server(server) => postgres::archive::target(server).await,
        }
    }
}
