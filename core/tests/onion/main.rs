//! Onion packets against vectors of an independent implementation, against properties and against attacks.

mod deliver;
mod directory;
mod guards;
mod identity_key;
mod packet;
mod route;
mod sealed;
mod support;
mod tunnels;
mod v2;
mod v3_adversarial;
mod v3_properties;
mod v3_vectors;
mod wycheproof;
