//! One call for both versions.

use delta_core::onion::v3::{self, Terminal};
use delta_core::onion::{
    BuildError, IdentitySecret, Layer, PeelLayerError, PeelSecret, Target, build_packet, deliver, peel_layer,
    v2,
};
use delta_core::topic::WriteKey;

use crate::support::{entropy, hops, nodes};

#[test]
fn v3_hops_take_a_write_key_and_end_in_its_topic() {
    let (route, key) = (nodes(2), WriteKey::from_seed([5; 32]));
    let target = Target::V3 { hops: &hops(&route), key: &key };
    let packet = build_packet(target, b"op", &mut entropy(1)).unwrap();
    let secret = |index: usize, kid| PeelSecret::V3 { kid, secret: *route[index].secret.to_bytes() };
    let Layer::ForwardToNode { next, packet, .. } = peel_layer(&secret(0, None), packet).unwrap() else {
        panic!("not forwarded");
    };
    assert_eq!(next, route[1].id);
    let delivered = Layer::Deliver { topic: key.topic(), flags: 0, payload: b"op".to_vec() };
    assert_eq!(peel_layer(&secret(1, Some(102)), packet.clone()), Ok(delivered));
    let wrong = peel_layer(&secret(1, Some(7)), packet);
    assert_eq!(wrong, Err(PeelLayerError::V3(v3::PeelError::UnknownKey(102))));
    let refused = build_packet(target, b"", &mut entropy(1));
    assert_eq!(refused, Err(BuildError::Deliver(deliver::DeliverError::Empty)));
}

#[test]
fn v3_cover_traffic_and_unsigned_content_are_told_apart() {
    let route = nodes(1);
    let secret = PeelSecret::V3 { kid: None, secret: *route[0].secret.to_bytes() };
    let cover = v3::wrap(&hops(&route), Terminal::Drop, &mut entropy(1)).unwrap();
    assert_eq!(peel_layer(&secret, cover), Ok(Layer::Drop));
    let unsigned = v3::wrap(&hops(&route), Terminal::Deliver(&[1; 200]), &mut entropy(1)).unwrap();
    assert!(matches!(peel_layer(&secret, unsigned), Err(PeelLayerError::Deliver(_))));
}

#[test]
fn v2_hops_take_a_topic() {
    let topic = WriteKey::from_seed([5; 32]).topic();
    let route = [1, 2].map(|number| v2::Hop {
        key: IdentitySecret::from_seed(&[number; 32]).public(),
        url: format!("https://relay{number}.example/hop"),
    });
    let packet = build_packet(Target::V2 { hops: &route, topic: &topic }, b"op", &mut entropy(1)).unwrap();
    let Layer::ForwardToUrl { url, packet } = peel_layer(&PeelSecret::V2 { seed: [1; 32] }, packet).unwrap()
    else {
        panic!("not forwarded");
    };
    assert_eq!(url, route[1].url);
    let wrong = peel_layer(&PeelSecret::V2 { seed: [1; 32] }, packet.clone());
    assert_eq!(wrong, Err(PeelLayerError::V2(v2::PeelError::Seal)));
    let delivered = Layer::Deliver { topic, flags: 0, payload: b"op".to_vec() };
    assert_eq!(peel_layer(&PeelSecret::V2 { seed: [2; 32] }, packet), Ok(delivered));
    assert_eq!(format!("{:?}", PeelSecret::V2 { seed: [2; 32] }), "V2 { .. }");
}
