//! The chaos run: a server that is killed, starved and wiped while it is used, and a checker that compares everything
//! it said with what it holds afterwards.
//!
//! - [`world`]: the server's lives, and what everybody knows of the present one
//! - [`faults`]: how lives end and what goes wrong during them
//! - [`publishers`], [`readers`]: concurrent users, who write down what they are told
//! - [`history`]: what was told, and whether it is true
//!
//! The seed decides what is done and in which order, not when the system lets each part run: a run cannot be repeated
//! exactly, so a failing one leaves its data folder and log behind.

pub mod faults;
pub mod history;
mod publishers;
mod readers;
pub mod run;
mod world;

pub use run::{Plan, Report, run};
