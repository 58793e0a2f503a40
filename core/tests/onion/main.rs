//! Onion packets against vectors of an independent implementation, against properties and against attacks.

mod deliver;
mod directory;
mod route;
mod support;
mod v3_adversarial;
mod v3_properties;
mod v3_vectors;
