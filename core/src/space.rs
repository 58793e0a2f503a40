//! Spaces: who belongs to one, with which level, and what counts in its rooms. Pure: no store, no clock.
//!
//! The operations of a space's log form a graph: each cites those its author had seen (body key 4, its *heads*), and
//! is judged by what these and everything before them say, and by nothing else. So a judgement, once made, never
//! changes, and devices agree whatever order operations arrive in; one whose heads are not known yet waits.
//! [`Membership`] holds the graph. Operations made without knowing of each other are settled by p2panda-auth's
//! strong-remove rules (`resolve`); docs/adr/0010-membership-at-cited-heads.md says why it is done this way.

mod graph;
mod holders;
mod invite;
mod line;
mod membership;
mod resolve;
mod rules;
mod state;

#[cfg(test)]
mod tests;

pub use graph::{Entry, Statement, Verdict};
pub use holders::{Access, Outlived, Renewal};
pub use invite::{Invite, InviteError, claim_mac, verify_claim};
pub use membership::{Audited, Judgement, Membership, Told};
pub use rules::Refusal;
pub use state::{Register, Standing, State};
