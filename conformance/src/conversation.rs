//! A small conversation in a fresh topic, and what a client that follows it must say about it.

use serde_json::{Value, json};

use delta_core::identity::{Author, Millis, OperationId};
use delta_core::ops::{Body, Content, DeviceKey, Ticket, create};

use crate::failure::{Checked, Failure};
use crate::random::{self, Platform};
use crate::topic::{hash, op};

/// A topic, the envelopes in it in their order, and the lines of a client that has its ticket.
pub struct Conversation {
    /// Opens it.
    pub ticket: Ticket,
    /// What is delivered.
    pub envelopes: Vec<Vec<u8>>,
    /// What a client prints for each: an object without `received_ms`.
    pub lines: Vec<Value>,
}

struct Writer {
    key: DeviceKey,
    next: u32,
    last: Option<OperationId>,
}

impl Writer {
    fn fresh() -> Self {
        Self { key: DeviceKey::from_bytes(&random::array()), next: 0, last: None }
    }

    fn author(&self) -> Author {
        self.key.author()
    }
}

impl Conversation {
    /// Two authors, every kind, texts of several lengths, and an envelope that is none.
    pub fn private() -> Checked<Self> {
        Self::made(Ticket::generate_private(&mut Platform).map_err(wrong)?)
    }

    /// The same in a public topic, whose envelopes are not sealed.
    pub fn public() -> Checked<Self> {
        Self::made(Ticket::generate_public(&mut Platform).map_err(wrong)?)
    }

    fn made(ticket: Ticket) -> Checked<Self> {
        let mut talk = Self { ticket, envelopes: Vec::new(), lines: Vec::new() };
        let (mut ada, mut bob) = (Writer::fresh(), Writer::fresh());
        let (ada_key, bob_key) = (ada.author(), bob.author());

        let name = Content::ProfileSet {
            name: "Ada".to_owned(),
            bio: Some("zwei\nZeilen".to_owned()),
            avatar: None,
            availability: Some("away".to_owned()),
            public: true,
        };
        talk.say(&mut ada, name, None, json!({ "0": "Ada", "1": "zwei\nZeilen", "3": "away", "4": true }))?;
        let hello = talk.say(
            &mut ada,
            message("grüße 👋", None, vec![]),
            Some(1_700_000_000_123),
            json!({ "0": "grüße 👋" }),
        )?;
        let reply = message("", Some(hello), vec![ada_key, bob_key]);
        let mentions = json!([hex::encode(ada_key.0), hex::encode(bob_key.0)]);
        let payload = json!({ "0": "", "1": hex::encode(hello.0), "2": mentions });
        let reply = talk.say(&mut bob, reply, Some(0), payload)?;
        talk.refuse(op(300));

        let long = "x".repeat(20_000);
        let edit = Content::MessageEdit { target: hello, text: long.clone() };
        talk.say(&mut ada, edit, None, json!({ "0": hex::encode(hello.0), "1": long }))?;
        let (target, emoji) = (hello, "👍🏽".to_owned());
        let payload = json!({ "0": hex::encode(hello.0), "1": emoji });
        talk.say(&mut bob, Content::ReactionAdd { target, emoji: emoji.clone() }, None, payload.clone())?;
        talk.say(&mut bob, Content::ReactionRemove { target, emoji }, None, payload)?;
        let delete = Content::MessageDelete { target: reply };
        talk.say(&mut bob, delete, None, json!({ "0": hex::encode(reply.0) }))?;
        let text = "the last one".to_owned();
        talk.say(&mut ada, message(&text, None, vec![]), None, json!({ "0": text }))?;
        Ok(talk)
    }

    /// Signs and seals an operation. `payload` is its payload as a client prints it, written by hand.
    fn say(
        &mut self,
        writer: &mut Writer,
        content: Content,
        sent_at_ms: Option<u64>,
        payload: Value,
    ) -> Checked<OperationId> {
        let kind = content.kind().to_owned();
        let body = Body { content, sent_at: sent_at_ms.map(Millis), observed: None, auth_heads: Vec::new() };
        let keys = self.ticket.keys();
        let signed = create(&writer.key, keys.log(), writer.next, writer.last, &body).map_err(wrong)?;
        let envelope = keys.seal(signed.header(), signed.body_bytes()).map_err(wrong)?;
        self.push(envelope, |line| {
            line["id"] = json!(hex::encode(signed.id().0));
            line["author"] = json!(hex::encode(writer.key.author().0));
            line["seq_num"] = json!(writer.next);
            line["backlink"] = json!(writer.last.map(|id| hex::encode(id.0)));
            line["kind"] = json!(kind);
            line["payload"] = payload;
            line["sent_at_ms"] = json!(sent_at_ms);
        });
        writer.next += 1;
        writer.last = Some(signed.id());
        Ok(signed.id())
    }

    /// Bytes that are no envelope: a client refuses them, and goes on.
    fn refuse(&mut self, bytes: Vec<u8>) {
        self.push(bytes, |line| line["refused"] = json!(true));
    }

    fn push(&mut self, envelope: Vec<u8>, add: impl FnOnce(&mut Value)) {
        let mut line = json!({ "event": "operation", "seq": self.envelopes.len() + 1 });
        line["hash"] = json!(hex::encode(hash(&envelope)));
        line["size"] = json!(envelope.len());
        add(&mut line);
        self.lines.push(line);
        self.envelopes.push(envelope);
    }

    /// The lines of a client without a ticket.
    pub fn closed_lines(&self) -> Vec<Value> {
        let closed = |line: &Value| json!({ "event": "operation", "seq": line["seq"], "hash": line["hash"], "size": line["size"] });
        self.lines.iter().map(closed).collect()
    }
}

fn message(text: &str, reply: Option<OperationId>, mentions: Vec<Author>) -> Content {
    Content::MessageSend { text: text.to_owned(), reply, mentions, attachments: Vec::new() }
}

fn wrong(error: impl std::fmt::Display) -> Failure {
    Failure::new("making operations", "operations", error.to_string())
}
