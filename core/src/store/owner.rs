//! Whose database it is: the key its device signs with. What waits here to be sent, the logs that go on, sessions and
//! certificates are that device's; opened with another key, they would be nobody's.

use super::Store;
use super::db::Db;
use super::error::StoreError;
use super::tx::{Durability, Tx};
use crate::identity::Author;

/// Under which name it is kept.
const OWNER: &str = "device";

impl Db {
    /// The device this database was last opened for; `None`: for none yet.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when what is kept is no key.
    pub fn owner(&self) -> Result<Option<Author>, StoreError> {
        let Some(bytes) = self.setting(OWNER)? else { return Ok(None) };
        let key = bytes.try_into().map_err(|_| StoreError::Corrupt {
            path: self.file().path(),
            detail: "what it says of whose it is is no key".to_owned(),
        })?;
        Ok(Some(Author(key)))
    }

    /// It is nobody's: whoever opens it next has it.
    pub(super) fn disown(&self) -> Result<(), StoreError> {
        self.run("DELETE FROM setting WHERE name = ?1", [OWNER]).map(drop)
    }

    /// The error of a database that another device than `given` wrote.
    pub fn other_device(&self, owner: Author, given: Option<Author>) -> StoreError {
        StoreError::OtherDevice { path: self.file().path(), owner, given }
    }
}

impl Store {
    /// Opens it for this device. One that was opened for none before is this device's from now on.
    ///
    /// # Errors
    /// [`StoreError::OtherDevice`], and nothing is changed.
    pub fn open_for(&mut self, device: Author) -> Result<(), StoreError> {
        match self.owner()? {
            Some(owner) if owner == device => Ok(()),
            Some(owner) => Err(self.other_device(owner, Some(device))),
            None => {
                let tx = self.begin(Durability::Full)?;
                tx.set_owner(&device)?;
                tx.commit()
            }
        }
    }
}

impl Tx<'_> {
    /// It is this device's from now on: its copy was given a key of its own.
    pub fn set_owner(&self, device: &Author) -> Result<(), StoreError> {
        self.set_setting(OWNER, &device.0)
    }

    /// It is nobody's: whoever opens it next has it.
    pub fn forget_owner(&self) -> Result<(), StoreError> {
        self.disown()
    }
}
