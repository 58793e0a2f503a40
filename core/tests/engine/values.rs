//! Values of keys, written by a device that has read what others wrote.

use delta_core::engine::Command;
use delta_core::identity::Millis;
use delta_core::limits::MAX_REPLACED;
use delta_core::ops::{Body, Content, HybridTime, KeyValue, ValueKey};

use crate::net::{Net, Peer, run};
use crate::support::{Writer, ticket};

#[test]
fn case_55_a_value_stands_over_however_many_of_the_far_future() {
    let at = ValueKey::new("todo", "milk");
    for count in [MAX_REPLACED, MAX_REPLACED + 1, 2 * MAX_REPLACED + 5] {
        let (mut net, ticket) = (Net::new(), ticket());
        let (mut a, mut b) = (Peer::new(1, &ticket), Peer::new(2, &ticket));
        let mut hostile = Writer::new([9; 32], &ticket);
        let far = Millis(a.device.now.0 + 100 * 365 * 86_400_000);
        for _ in 0..count {
            let (at, value) = (at.clone(), Some(b"mine".to_vec()));
            let write = KeyValue { at, value, time: HybridTime::at(far), replaces: Vec::new() };
            let envelope = hostile.write(Body::new(Content::KeyValue(Box::new(write))));
            net.world(ticket.topic()).log.push(envelope);
        }
        run(&mut net, &mut [&mut a, &mut b]);
        let value = |peer: &Peer| peer.reader().value(&ticket.log(), &at).unwrap().unwrap().value;
        assert_eq!((value(&a), value(&b)), (b"mine".to_vec(), b"mine".to_vec()));
        let put = Command::PutValue {
            topic: ticket.topic(),
            at: at.clone(),
            value: Some(b"two bottles".to_vec().into()),
        };
        a.command(&mut net, put).unwrap();
        run(&mut net, &mut [&mut a, &mut b]);
        assert_eq!((value(&a), value(&b)), (b"two bottles".to_vec(), b"two bottles".to_vec()), "{count}");
    }
}
