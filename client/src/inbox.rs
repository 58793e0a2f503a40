//! Inboxes and direct threads: what is said to one device alone. (Rows are read with [`Client::read`].)

use delta_core::crypto::{GroupCrypto, TwoParty};
use delta_core::engine::{Command, CommandError, Reply, prepare_message};
use delta_core::identity::{Author, LogId, OperationId, ThreadId};
use delta_core::ops::{Contact, Content, Hidden};
use delta_core::topic::TopicId;

use crate::client::{Client, unexpected};
use crate::error::ClientError;
use crate::platform::PlatformEntropy;

/// How often something is prepared again because something came in between.
const ATTEMPTS: usize = 3;

impl Client {
    /// Opens this device's inbox, in which others ask for direct threads and claim invitations. It stays open, is renewed
    /// by itself and read whether anybody listens or not (through a tunnel alone, unless hidden reading is off). Gives the
    /// topic to listen to for news. Spaces and direct threads open it by themselves.
    pub async fn open_inbox(&self) -> Result<TopicId, ClientError> {
        let now = self.now();
        // On a blocking thread: the library draws from the operating system.
        let secrets = self.read(move |reader| {
            Ok(match reader.device_secrets()? {
                Some(_) => None,
                None => Some(TwoParty.generate(now, &mut PlatformEntropy)),
            })
        });
        let secrets = secrets.await?.transpose().map_err(CommandError::from)?.map(Box::new);
        match self.command(Command::OpenInbox { secrets }).await? {
            Reply::Topic(topic) => Ok(topic),
            other => Err(unexpected(&other)),
        }
    }

    /// What others need to write to this device: its text is to be given to them. Good for about two months.
    pub async fn contact(&self) -> Result<Contact, ClientError> {
        self.open_inbox().await?;
        let newest = self.read(|reader| {
            let Some(newest) = reader.inboxes()?.pop() else { return Ok(None) };
            Ok(reader.topic(newest.topic)?.map(|row| row.ticket.keys()))
        });
        let keys = newest.await?.ok_or(CommandError::NoInbox)?;
        let key = keys.write_key().ok_or(CommandError::NoInbox)?;
        Ok(Contact { device: self.author(), inbox: Hidden(*key.seed()) })
    }

    /// Asks a manager's device to be added to a space.
    pub async fn request_join(
        &self,
        space: LogId,
        manager: &Contact,
        text: Option<String>,
    ) -> Result<OperationId, ClientError> {
        self.open_inbox().await?;
        let Contact { device: to, inbox } = manager.clone();
        published(self.command(Command::RequestJoin { space, to, inbox: Some(inbox), text }).await?)
    }

    /// Asks the device of a contact for a direct thread. It is open once that one accepts.
    pub async fn request_direct(&self, to: &Contact, text: Option<String>) -> Result<ThreadId, ClientError> {
        let Contact { device, inbox } = to.clone();
        self.ask(device, Some(inbox), text).await
    }

    /// The same of a device that shares a space with this one.
    pub async fn request_direct_of(
        &self,
        member: Author,
        text: Option<String>,
    ) -> Result<ThreadId, ClientError> {
        self.ask(member, None, text).await
    }

    async fn ask(
        &self,
        to: Author,
        inbox: Option<Hidden>,
        text: Option<String>,
    ) -> Result<ThreadId, ClientError> {
        self.open_inbox().await?;
        match self.command(Command::RequestDirect { to, inbox, text }).await? {
            Reply::Thread { thread, .. } => Ok(thread),
            other => Err(unexpected(&other)),
        }
    }

    /// Accepts a direct thread that another device asked for. Gives the topic it lives in: subscribe to it.
    pub async fn accept_direct(&self, thread: ThreadId) -> Result<TopicId, ClientError> {
        match self.command(Command::AcceptDirect { thread }).await? {
            Reply::Thread { topic: Some(topic), .. } => Ok(topic),
            other => Err(unexpected(&other)),
        }
    }

    /// Takes no more part in a direct thread, or turns a request down; the other device is not told.
    pub async fn close_direct(&self, thread: ThreadId) -> Result<(), ClientError> {
        self.command(Command::CloseDirect { thread }).await.map(drop)
    }

    /// Signs, seals and queues an operation of a direct thread. Returns once it is durable on this device.
    ///
    /// # Errors
    /// `thread_state` when it is not open; `crypto` when no good key bundle of the other device is known: it has to come
    /// online.
    pub async fn send_direct(&self, thread: ThreadId, content: Content) -> Result<OperationId, ClientError> {
        let (mut attempts, identity) = (0, self.identity().await?);
        loop {
            attempts += 1;
            let (now, who) = (self.now(), (self.author(), identity));
            let prepared =
                self.read(move |reader| Ok(prepare_message(reader, &thread, who, now, &mut PlatformEntropy)));
            let prepared = prepared.await??.into();
            match self.command(Command::PublishDirect { thread, content: content.clone(), prepared }).await {
                Err(ClientError::Command(CommandError::StaleKeys)) if attempts < ATTEMPTS => {}
                other => return published(other?),
            }
        }
    }

    /// How many packets are not handed over to the network yet, and operations for others' inboxes that never were: an
    /// app that ends before this is 0 leaves them for its next start. (Whether they arrived is asked for later.)
    pub async fn unsent(&self) -> Result<usize, ClientError> {
        match self.command(Command::Unsent).await? {
            Reply::Unsent(unsent) => Ok(unsent),
            other => Err(unexpected(&other)),
        }
    }
}

fn published(reply: Reply) -> Result<OperationId, ClientError> {
    match reply {
        Reply::Published(operation) => Ok(operation),
        other => Err(unexpected(&other)),
    }
}
