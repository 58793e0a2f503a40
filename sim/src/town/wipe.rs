//! Devices that lose their database: it is put back as it was once, or gone. Whoever opens it must notice, and go on
//! with another key, as the client's keystore has it (docs/wire.md says what is forgotten then).

use std::fs;

use delta_core::identity::{Instance, Millis, Standing};
use delta_core::store::{Durability, Store, StoreError, StoreKey};

use super::kin::Bond;
use crate::device::Device;
use crate::disk;
use crate::rng::Rng;
use crate::violation::{Violation, ensure};
use crate::world::{Event, World};

impl World {
    /// A further device of somebody, that nobody has paired yet.
    pub(super) fn add_device(&mut self, person: usize) -> usize {
        let index = self.devices.len();
        let (key, rng) = (self.rng.bytes(), Rng::new(self.rng.below(u64::MAX), "further device"));
        let device: Device = self.devices[person].sibling(index, key, rng);
        self.devices.push(device);
        if let Some(town) = &mut self.town {
            town.kin.add(person);
        }
        let now = self.now();
        self.trace.line(now, format_args!("person {person} gets device {index}"));
        self.after(0, Event::DeviceStart { device: index });
        index
    }

    /// Copies a device's database.
    pub(super) fn copy_device(&mut self, device: usize) -> Result<(), Violation> {
        let name = format!("backup-{device}-{}.db", self.rng.below(u64::MAX));
        let state = &mut self.devices[device];
        let Some(reader) = &state.reader else { return Ok(()) };
        let path = state.file().with_file_name(name);
        let copied = reader.copy_to(&path, &StoreKey::new([0; 32]));
        copied.map_err(|error| Violation::new(format!("device {device} cannot be copied: {error}")))?;
        if let Some(old) = state.keystore.backup.replace(path) {
            disk::remove(&old);
        }
        Ok(())
    }

    /// Devices that may lose their database: never the first one, and never the only one that says who somebody is.
    pub(super) fn losable(&self) -> Vec<usize> {
        let Some(kin) = self.town.as_ref().map(|town| &town.kin) else { return Vec::new() };
        let may = |device: &usize| {
            let home = &kin.homes[*device];
            let identity = kin.people[home.person].identity;
            *device != 0 && home.bond == Bond::Own && self.devices[*device].author().0 != identity.0
        };
        (0..kin.homes.len()).filter(may).collect()
    }

    /// A device's database is put back as it was once, or is gone.
    pub(super) fn lose_database(&mut self, device: usize) -> Result<(), Violation> {
        let Some(town) = &self.town else { return Ok(()) };
        let (person, author) = (town.kin.person(device), self.devices[device].author());
        let person = &town.kin.people[person];
        let words = person.words && self.rng.chance(700);
        let restored = self.rng.chance(600);
        let down = self.rng.skewed(10, 60_000);
        if !self.kill_device(device, false, down)? {
            return Ok(());
        }
        let now = self.now();
        let state = &mut self.devices[device];
        let (file, backup) = (state.file(), state.keystore.backup.take());
        let backup = backup.filter(|_| restored);
        disk::remove(&file);
        let how = match &backup {
            Some(backup) => {
                fs::copy(backup, &file)
                    .map_err(|error| Violation::new(format!("cannot restore a copy: {error}")))?;
                "is put back as it was once"
            }
            None => "is lost",
        };
        state.keystore.copied = true;
        if backup.is_none() && self.rng.chance(500) {
            state.keystore.instance = None;
        }
        state.cursors.clear();
        state.renew_key(self.rng.bytes());
        let Some(town) = &mut self.town else { return Ok(()) };
        let person = &town.kin.people[town.kin.homes[device].person];
        if words {
            state.certify(&person.key, now);
        }
        let with = if words { "its person enters the words" } else { "nobody says whose it is" };
        self.trace.line(now, format_args!("the database of device {device} {how}; {with}"));
        town.kin.wipe(device, author, if words { Bond::Own } else { Bond::None });
        town.reference.wiped(device);
        Ok(())
    }

    /// Notices whether a database is the one that this device wrote last.
    pub(crate) fn judge_copy(
        &mut self,
        device: usize,
        store: &mut Store,
        told: Millis,
    ) -> Result<(), Violation> {
        let fail = |error: StoreError| Violation::new(format!("device {device} cannot open: {error}"));
        let kept = store.setting(Instance::SETTING).map_err(fail)?;
        let database = kept.and_then(|bytes| Instance::from_bytes(&bytes));
        let keystore = &mut self.devices[device].keystore;
        let standing = Standing::of(database, keystore.instance);
        let (instance, other) = match standing {
            Standing::Same(instance) => (instance, false),
            Standing::Fresh => (Instance { id: self.rng.bytes(), opens: 1 }, false),
            Standing::Copied => (Instance { id: self.rng.bytes(), opens: 1 }, true),
        };
        let copied = std::mem::take(&mut keystore.copied);
        ensure!(
            copied != matches!(standing, Standing::Same(_)) || standing == Standing::Fresh,
            "device {device} opens {database:?} with {:?} and takes it for {standing:?}",
            keystore.instance
        );
        keystore.instance = Some(instance);
        let tx = store.begin(Durability::Full).map_err(fail)?;
        if other {
            tx.forget_sessions().map_err(fail)?;
            tx.forget_unsent(None).map_err(fail)?;
        }
        tx.set_setting(Instance::SETTING, &instance.to_bytes()).map_err(fail)?;
        tx.commit().map_err(fail)?;
        let now = self.now();
        self.trace.line(now, format_args!("device {device} finds {standing:?}, its clock says {told}"));
        Ok(())
    }
}
