//! A person's devices: paired over relays and a server, sharing topics and what was read, revoked.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use delta_client::{Client, Config, KeyStore, KeyStoreError, open_snapshot, store_identity};
use delta_core::identity::{LogId, Mnemonic};
use delta_core::ops::{Content, Level, RoomText, SpaceText};
use delta_core::pairing::Pairing;
use delta_core::store::{Page, ProfileRow, Reader, StoreError, Unread};
use tempfile::TempDir;
use zeroize::Zeroizing;

use crate::device::message;
use crate::net::Net;

const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Debug, Default)]
pub struct Memory(Mutex<HashMap<String, Vec<u8>>>);

impl KeyStore for Memory {
    fn get(&self, item: &str) -> Result<Option<Zeroizing<Vec<u8>>>, KeyStoreError> {
        Ok(self.0.lock().unwrap().get(item).cloned().map(Zeroizing::new))
    }

    fn put(&self, item: &str, value: &[u8]) -> Result<(), KeyStoreError> {
        self.0.lock().unwrap().insert(item.to_owned(), value.to_vec());
        Ok(())
    }

    fn delete(&self, item: &str) -> Result<(), KeyStoreError> {
        self.0.lock().unwrap().remove(item);
        Ok(())
    }
}

struct Device {
    dir: TempDir,
    keystore: Arc<Memory>,
    client: Client,
}

impl Device {
    async fn on(net: &Net, words: Option<Mnemonic>) -> Self {
        let keystore = Arc::new(Memory::default());
        if let Some(words) = words {
            store_identity(&*keystore, &words).unwrap();
        }
        let dir = tempfile::tempdir().unwrap();
        let client = open(&dir, &keystore, net).await;
        Self { dir, keystore, client }
    }

    async fn restart(self, net: &Net) -> Self {
        let Self { dir, keystore, client } = self;
        client.close().await.unwrap();
        let client = open(&dir, &keystore, net).await;
        Self { dir, keystore, client }
    }

    /// Waits until a query gives something.
    async fn until<T: Send + 'static>(
        &self,
        query: impl Fn(&Reader) -> Result<Option<T>, StoreError> + Clone + Send + 'static,
    ) -> T {
        let found = async {
            loop {
                if let Some(found) = self.client.read(query.clone()).await.unwrap() {
                    return found;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, found).await.expect("it never comes")
    }

    async fn until_text(&self, room: LogId, text: &'static str) {
        self.until(move |reader| {
            let rows = reader.messages(&room, Page::Newest, 100)?;
            Ok(rows.iter().any(|row| row.text.as_deref() == Some(text)).then_some(()))
        })
        .await;
    }
}

async fn open(dir: &TempDir, keystore: &Arc<Memory>, net: &Net) -> Client {
    let mut config =
        Config::with_keystore(dir.path().join("device.db"), Arc::clone(keystore) as Arc<dyn KeyStore>);
    config.allow_plaintext = true;
    let client = Client::open(config).await.unwrap();
    client.init_sync(&net.hops(), &net.sync_url()).await.unwrap();
    client
}

async fn pair(old: &Device, new: &Device) {
    let host = old.client.pair().await.unwrap();
    let pairing: Pairing = host.text().parse().unwrap();
    let meeting = pairing.ticket().log();
    let (asked, guest) = tokio::join!(host.asked(), new.client.join(pairing));
    let (request, mut guest) = (asked.unwrap(), guest.unwrap());
    assert_eq!(request.device(), new.client.author());
    assert_eq!(guest.code().await.unwrap(), request.code());
    let handed_over = async { request.accept().await?.delivered().await };
    let (accepted, joined) = tokio::join!(handed_over, guest.joined());
    accepted.unwrap();
    assert_eq!(joined.unwrap(), old.client.identity().await.unwrap());
    for device in [old, new] {
        assert!(!logs(device).await.contains(&meeting), "nothing is left of the pairing");
    }
}

/// The conversations that a device has topics of.
async fn logs(device: &Device) -> Vec<LogId> {
    let topics = device.client.read(|reader| reader.topics()).await.unwrap();
    topics.into_iter().map(|row| row.ticket.log()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paired_device_has_the_persons_rooms_reads_for_both_and_is_nobodys_once_revoked() {
    let net = Net::start().await;
    // Inboxes, where invitations are claimed, are read through tunnels alone.
    net.world().offers_tunnels = true;
    let old = Device::on(&net, Some(Mnemonic::from_entropy([9; 32]))).await;
    let about = SpaceText { name: "Garden".into(), ..SpaceText::default() };
    let (space, space_topic) = old.client.create_space(about).await.unwrap();
    let about = RoomText { name: "Shed".into(), ..RoomText::default() };
    let (room, room_topic) = old.client.create_room(space, about).await.unwrap();
    let _space = old.client.subscribe(space_topic).await.unwrap();
    let _room = old.client.subscribe(room_topic).await.unwrap();
    let (name, bio, avatar, availability) = ("Ada".to_owned(), None, None, None);
    let profile = Content::ProfileSet { name, bio, avatar, availability, public: false };
    old.client.publish(room_topic, profile).await.unwrap();
    old.client.publish(room_topic, message("before")).await.unwrap();
    // New members are not to read it: the room moves at once.
    old.until(move |reader| Ok((reader.topics_of_log(room)?.len() == 2).then_some(()))).await;

    let new = Device::on(&net, None).await;
    // A pairing that was begun and given up is nobody else's business.
    let given_up = old.client.pair().await.unwrap();
    pair(&old, &new).await;
    let begun: Pairing = given_up.text().parse().unwrap();
    assert!(logs(&old).await.contains(&begun.ticket().log()));
    assert!(!logs(&new).await.contains(&begun.ticket().log()));
    let new = new.restart(&net).await;
    let identity = old.client.identity().await.unwrap();
    assert_eq!(new.client.identity().await.unwrap(), identity, "also after a restart");
    let (space_at, room_at) =
        (new.client.topic_of(space).await.unwrap(), new.client.topic_of(room).await.unwrap());
    // By the name that a query gives, the engine tells of it: it was opened in its newest topic first.
    let at = new.client.read(move |reader| reader.topics_of_log(room)).await.unwrap();
    assert_eq!(at.last(), Some(&(1, room_at)));
    let _new_space = new.client.subscribe(space_at).await.unwrap();
    let _new_room = new.client.subscribe(room_at).await.unwrap();
    // Also where the room has moved meanwhile.
    new.until_text(room, "before").await;
    // Both act as the same member, once the space was told.
    let device = new.client.author();
    for one in [&old, &new] {
        one.until(move |reader| {
            Ok(reader.space_devices(&space)?.iter().any(|row| row.device == device).then_some(()))
        })
        .await;
    }
    // Who is notified of what the new device says is told the person's name; also of the room's earlier epoch.
    let snapshot = old.client.key_snapshot().await.unwrap();
    let snapshot = open_snapshot(&snapshot, &*old.keystore).unwrap();
    let of_room: Vec<_> = snapshot.topics().iter().filter(|topic| topic.keys.log() == room).collect();
    assert_eq!(of_room.len(), 2);
    for topic in of_room {
        assert_eq!((topic.known_as, topic.names.get(&device).map(String::as_str)), (room_topic, Some("Ada")));
    }
    new.client.publish(room_at, message("from the new one")).await.unwrap();
    old.until_text(room, "from the new one").await;
    // What they said of themselves last holds for both, whichever of them said it.
    let (name, bio, avatar, availability) = ("Ada L.".to_owned(), None, None, None);
    let profile = Content::ProfileSet { name, bio, avatar, availability, public: false };
    new.client.publish(room_at, profile).await.unwrap();
    let named = move |row: Option<ProfileRow>| row.filter(|row| row.name == "Ada L.").map(drop);
    old.until(move |reader| Ok(named(reader.profile(&device, &room)?))).await;
    let snapshot = old.client.key_snapshot().await.unwrap();
    let snapshot = open_snapshot(&snapshot, &*old.keystore).unwrap();
    for topic in snapshot.topics().iter().filter(|topic| topic.keys.log() == room) {
        for author in [device, old.client.author()] {
            assert_eq!(topic.names.get(&author).map(String::as_str), Some("Ada L."));
        }
    }
    let members = old.client.read(move |reader| reader.members(&space)).await.unwrap();
    assert_eq!(
        (members.len(), members[0].member, members[0].standing.level),
        (1, identity, Some(Level::Manage))
    );

    // Somebody else's message, read on one device, is read on both.
    let other = Device::on(&net, None).await;
    let invite = old.client.create_invite(space, Level::Write, None, true).await.unwrap();
    let (_, their_space) = other.client.accept_invite(invite).await.unwrap();
    let _theirs = other.client.subscribe(their_space).await.unwrap();
    other.until(move |reader| Ok(reader.topics_of_log(room)?.first().copied())).await;
    let their_room = other.client.topic_of(room).await.unwrap();
    let _their_room = other.client.subscribe(their_room).await.unwrap();
    other.client.publish(their_room, message("hello you")).await.unwrap();
    old.until_text(room, "hello you").await;
    new.until_text(room, "hello you").await;
    let reader = new.client.author();
    let unread = new.client.read(move |db| db.unread(&room, &reader)).await.unwrap();
    assert_eq!(
        unread,
        Unread { messages: 1, mentions: 0 },
        "what the person's other device wrote is not unread"
    );
    let rows = old.client.read(move |db| db.messages(&room, Page::Newest, 100)).await.unwrap();
    let newest = rows.iter().find(|row| row.text.as_deref() == Some("hello you")).unwrap().position;
    old.client.set_read(room, newest).await.unwrap();
    new.until(move |db| Ok((db.unread(&room, &reader)?.messages == 0).then_some(()))).await;

    // Revoked: nothing it says from now on counts for anybody.
    assert_eq!(new.client.revoke_device(old.client.author()).await.unwrap_err().code(), "not_the_identity");
    old.client.revoke_device(device).await.unwrap();
    for one in [&old, &new, &other] {
        one.until(move |db| {
            Ok(db.space_devices(&space)?.iter().any(|row| row.device == device && row.revoked).then_some(()))
        })
        .await;
    }
    assert_eq!(new.client.publish(room_at, message("still here")).await.unwrap_err().code(), "may_not_write");
    let devices = old.client.own_devices().await.unwrap();
    assert!(devices.iter().any(|row| row.device == device && row.revoked && !row.this));
    assert!(devices.iter().any(|row| row.device == old.client.author() && !row.revoked && row.this));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_else_has_the_text_and_is_first_does_not_go_unnoticed() {
    let net = Net::start().await;
    let old = Device::on(&net, Some(Mnemonic::from_entropy([9; 32]))).await;
    let (thief, new) = (Device::on(&net, None).await, Device::on(&net, None).await);
    let host = old.client.pair().await.unwrap();
    let pairing: Pairing = host.text().parse().unwrap();
    let (asked, theft) = tokio::join!(host.asked(), thief.client.join(pairing.clone()));
    let (request, _theft) = (asked.unwrap(), theft.unwrap());
    assert_eq!(request.device(), thief.client.author());
    let mut guest = new.client.join(pairing).await.unwrap();
    assert_eq!(guest.code().await.unwrap_err().code(), "pairing_taken");
    // Nothing was handed over: its person did not accept.
    drop(request);
    assert_eq!(thief.client.identity().await.unwrap(), thief.client.author().into());
    // One that is refused hears of it, and nothing is left.
    let host = old.client.pair().await.unwrap();
    let pairing: Pairing = host.text().parse().unwrap();
    let meeting = pairing.ticket().log();
    let (asked, guest) = tokio::join!(host.asked(), new.client.join(pairing));
    let (request, mut guest) = (asked.unwrap(), guest.unwrap());
    assert_eq!(guest.code().await.unwrap(), request.code());
    let refused = async { request.refuse().await?.delivered().await };
    let (refused, joined) = tokio::join!(refused, guest.joined());
    refused.unwrap();
    assert_eq!(joined.unwrap_err().code(), "pairing_refused");
    assert_eq!(new.client.identity().await.unwrap(), new.client.author().into());
    for device in [&old, &new] {
        assert!(!logs(device).await.contains(&meeting), "nothing is left of the pairing");
    }
    // A device of somebody's joins nobody else.
    let host = old.client.pair().await.unwrap();
    let refused = old.client.join(host.text().parse().unwrap()).await.unwrap_err();
    assert_eq!(refused.code(), "certified");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_persons_devices_share_may_move_while_another_one_is_paired() {
    let net = Net::start().await;
    let old = Device::on(&net, Some(Mnemonic::from_entropy([9; 32]))).await;
    let (lost, new) = (Device::on(&net, None).await, Device::on(&net, None).await);
    pair(&old, &lost).await;
    let own = lost.client.read(|reader| reader.own_topic()).await.unwrap().unwrap().log();
    let epochs = move |reader: &Reader| {
        let topics = reader.topics_of_log(own)?;
        Ok((topics.last().map(|(epoch, _)| *epoch) == Some(1)).then_some(()))
    };
    // The text is shown, the new device asks, and then the lost one is revoked.
    let host = old.client.pair().await.unwrap();
    let pairing: Pairing = host.text().parse().unwrap();
    let (asked, guest) = tokio::join!(host.asked(), new.client.join(pairing));
    let (request, mut guest) = (asked.unwrap(), guest.unwrap());
    assert_eq!(guest.code().await.unwrap(), request.code());
    old.client.revoke_device(lost.client.author()).await.unwrap();
    old.until(epochs).await;
    let handed_over = async { request.accept().await?.delivered().await };
    let (accepted, joined) = tokio::join!(handed_over, guest.joined());
    accepted.unwrap();
    joined.unwrap();
    new.until(epochs).await;
}
