//! What somebody says of themselves is said by the person, on whichever device.

use super::*;

fn profile(name: &str) -> Content {
    Content::ProfileSet { name: name.into(), bio: None, avatar: None, availability: None, public: false }
}

fn name(device: &Device, person: usize) -> Option<String> {
    device.store.profile(&who(person), &room()).unwrap().map(|row| row.name)
}

#[test]
fn a_persons_devices_share_the_profile_that_was_set_last_on_any_of_them() {
    let (mut world, member) = with_two_devices();
    let mut names = Vec::new();
    for (person, said) in [(5, "first"), (6, "second"), (5, "third")] {
        world.tell(person, room(), profile(said));
        let device = Device::with(&world);
        names.push([5, 6].map(|person| name(&device, person)));
    }
    let both = |said: &str| [Some(said.to_owned()), Some(said.to_owned())];
    assert_eq!(names, [both("first"), both("second"), both("third")]);
    let mut device = Device::with(&world);
    let by_identity = device.store.profile(&Author(member.0), &room()).unwrap().unwrap();
    assert_eq!((by_identity.name.as_str(), by_identity.author), ("third", who(5)));
    // Nobody else's, and not in another conversation.
    assert_eq!(name(&device, 2), None);
    assert_eq!(device.store.profile(&who(6), &space()).unwrap(), None);
    // The order in which it comes is of no matter.
    let mut backwards = Device::with(&World::new());
    for written in world.written.iter().skip(1).rev() {
        backwards.receive(written);
    }
    assert_eq!(name(&backwards, 6).as_deref(), Some("third"));
    device.write(|tx| tx.rebuild().unwrap());
    assert_eq!(name(&device, 6).as_deref(), Some("third"));
}

#[test]
fn what_a_device_said_of_its_person_before_it_was_revoked_stays() {
    let (mut world, _) = with_two_devices();
    world.tell(6, room(), profile("before"));
    let revocation = Revocation::sign(&IdentityKey::from_seed(&[77; 32]), who(6), Millis(2));
    world.act(5, Action::DeviceRevoke { revocation });
    world.tell(6, room(), profile("after"));
    assert_eq!(name(&Device::with(&world), 5).as_deref(), Some("before"));
}
