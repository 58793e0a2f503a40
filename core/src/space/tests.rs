mod devices;
mod invites;
mod line;
mod model;
mod orders;
mod rules;
mod support;
