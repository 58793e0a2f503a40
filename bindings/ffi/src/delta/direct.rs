//! Direct threads: what is said to one person alone.

use delta_core::identity::{Author, LogId, OperationId, ThreadId};
use delta_core::ops::Contact;
use delta_core::topic::TopicId;

use super::Delta;
use crate::direct::DirectThread;
use crate::error::DeltaError;
use crate::message::Content;

#[uniffi::export]
impl Delta {
    /// Opens this device's inbox, in which others ask for direct threads, and gives the topic to subscribe to for news of
    /// them. Spaces and direct threads open it by themselves.
    pub async fn open_inbox(&self) -> Result<TopicId, DeltaError> {
        self.on(async |client| client.open_inbox().await).await
    }

    /// What others need to write to this device, as a text to be given to them (a link, a QR code). Good for about two
    /// months.
    pub async fn contact(&self) -> Result<String, DeltaError> {
        Ok(self.on(async |client| client.contact().await).await?.to_string())
    }

    /// Asks the device of a contact for a direct thread. It is open once that one accepts. Refused with `contact` for another
    /// text, with `not_reachable` for one's own.
    #[uniffi::method(default(text = None))]
    pub async fn request_direct(
        &self,
        contact: String,
        text: Option<String>,
    ) -> Result<ThreadId, DeltaError> {
        let contact = parse(&contact)?;
        self.on(async move |client| client.request_direct(&contact, text).await).await
    }

    /// The same of a device that shares a space with this one. Refused with `not_reachable` as long as it has not said there
    /// where it is written to.
    #[uniffi::method(default(text = None))]
    pub async fn request_direct_of(
        &self,
        member: Author,
        text: Option<String>,
    ) -> Result<ThreadId, DeltaError> {
        self.on(async move |client| client.request_direct_of(member, text).await).await
    }

    /// Accepts a direct thread that another device asked for. Gives the topic it lives in: subscribe to it. Refused
    /// with `unknown_thread`, or with `thread_state` where nothing was asked, or it was answered before.
    pub async fn accept_direct(&self, thread: ThreadId) -> Result<TopicId, DeltaError> {
        self.on(async move |client| client.accept_direct(thread).await).await
    }

    /// Takes no more part in a direct thread, or turns a request down; the other device is not told. Its messages stay.
    /// Refused with `unknown_thread`.
    pub async fn close_direct(&self, thread: ThreadId) -> Result<(), DeltaError> {
        self.on(async move |client| client.close_direct(thread).await).await
    }

    /// Publishes in a direct thread: `publish` does not reach it. Messages are read by the thread's topic as any other.
    /// Refused with `unknown_thread`, or with `thread_state` as long as it is not open.
    pub async fn send_direct(&self, thread: ThreadId, content: Content) -> Result<OperationId, DeltaError> {
        self.on(async move |client| client.send_direct(thread, content.resolved(&client).await?).await).await
    }

    /// All direct threads, oldest first, requests included.
    pub async fn direct_threads(&self) -> Result<Vec<DirectThread>, DeltaError> {
        self.query(|reader| Ok(reader.direct_threads()?.into_iter().map(Into::into).collect())).await
    }

    /// Asks a manager's device to be added to a space: by its contact. Once a manager has added this device's person, and
    /// that device was online, the space opens here by itself. Refused with `contact` for another text.
    #[uniffi::method(default(text = None))]
    pub async fn request_join(
        &self,
        space: LogId,
        manager: String,
        text: Option<String>,
    ) -> Result<OperationId, DeltaError> {
        let manager = parse(&manager)?;
        self.on(async move |client| client.request_join(space, &manager, text).await).await
    }
}

fn parse(contact: &str) -> Result<Contact, DeltaError> {
    Contact::parse(contact.trim()).map_err(|error| DeltaError::argument("contact", error))
}
