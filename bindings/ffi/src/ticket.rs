//! Tickets: one line of text from which a topic is opened. Whoever holds one may read (and write).

use delta_client::{ClientError, PlatformEntropy};
use delta_core::identity::LogId;
use delta_core::ops::Ticket;
use delta_core::topic::TopicId;

use crate::error::DeltaError;

/// What a ticket says of itself.
#[derive(Clone, Debug, PartialEq, Eq, uniffi::Record)]
pub struct TicketFacts {
    /// Where the conversation lives.
    pub topic: TopicId,
    /// The conversation.
    pub log: LogId,
    /// Whether it allows writing.
    pub can_write: bool,
    /// Whether everyone who knows the topic id can read it.
    pub public: bool,
}

/// A ticket for a fresh topic: of a private conversation, or with `public` of a channel that everyone may read.
#[uniffi::export(default(public = false))]
pub fn generate_ticket(public: bool) -> Result<String, DeltaError> {
    let ticket = match public {
        true => Ticket::generate_public(&mut PlatformEntropy),
        false => Ticket::generate_private(&mut PlatformEntropy),
    };
    Ok(ticket.map_err(ClientError::from)?.to_string())
}

/// The same ticket without the right to write. Refused with `ticket` for another text.
#[uniffi::export]
pub fn read_only_ticket(ticket: String) -> Result<String, DeltaError> {
    Ok(parse(&ticket)?.read_only().to_string())
}

/// What a ticket says of itself.
#[uniffi::export]
pub fn ticket_facts(ticket: String) -> Result<TicketFacts, DeltaError> {
    let ticket = parse(&ticket)?;
    let (topic, log) = (ticket.topic(), ticket.log());
    Ok(TicketFacts { topic, log, can_write: ticket.can_write(), public: ticket.is_public() })
}

/// Blanks around a ticket come with copying it.
pub(crate) fn parse(text: &str) -> Result<Ticket, DeltaError> {
    Ok(Ticket::parse(text.trim()).map_err(ClientError::from)?)
}
