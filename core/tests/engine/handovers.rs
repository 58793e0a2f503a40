//! Few packets are on their way to entry relays at once, and every topic gets its turn.

use delta_core::engine::{Command, Handover, Input, MAX_HANDOVERS, Output, Unreadable};
use delta_core::entropy::SeededEntropy;
use delta_core::ops::{Content, Ticket};
use delta_core::store::Store;
use delta_core::sync::outbox::AttemptId;

use crate::support::{Device, World};

fn attempts(outputs: &[Output]) -> Vec<AttemptId> {
    let attempt = |output: &Output| match output {
        Output::Post(job) => Some(job.attempt),
        _ => None,
    };
    outputs.iter().filter_map(attempt).collect()
}

#[test]
fn a_topic_whose_turn_comes_with_nothing_to_send_does_not_stop_those_behind_it() {
    let tickets: Vec<Ticket> = (0..MAX_HANDOVERS + 2)
        .map(|index| Ticket::generate_private(&mut SeededEntropy::new([index as u8; 32])).unwrap())
        .collect();
    let world = World::new(tickets[0].topic());
    let mut alice = Device::new(1, Store::in_memory().unwrap(), &tickets[0]);
    alice.command(Command::Configure(world.network(3))).unwrap();
    let (mut sent, mut waiting) = (Vec::new(), None);
    for (index, ticket) in tickets.iter().enumerate() {
        alice.command(Command::OpenTopic { ticket: ticket.clone() }).unwrap();
        let content = Content::MessageSend {
            text: "turn".into(),
            reply: None,
            mentions: Vec::new(),
            attachments: Vec::new(),
        };
        let input = alice.input(Command::Publish { topic: ticket.topic(), content });
        let outputs = alice.handle(vec![input]).unwrap();
        sent.extend(attempts(&outputs));
        if index == MAX_HANDOVERS {
            waiting = outputs.iter().find_map(|output| match output {
                Output::Connect { conn, request, .. } if request.topic == ticket.topic() => Some(*conn),
                _ => None,
            });
        }
    }
    assert_eq!(sent.len(), MAX_HANDOVERS, "the last two wait");
    // The first of the two is deleted meanwhile.
    let conn = waiting.expect("what waits for an echo is received");
    alice.handle(vec![Input::Refused { conn, unreadable: Unreadable::Gone }]).unwrap();
    let posted = Input::Posted { attempt: sent[0], handover: Handover::Taken };
    assert_eq!(attempts(&alice.handle(vec![posted]).unwrap()).len(), 1, "the second of the two");
}
