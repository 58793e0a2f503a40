mod devices;
mod invites;
mod model;
mod orders;
mod rules;
mod support;
