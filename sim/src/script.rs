//! How an actor misbehaves on purpose: rules that the simulation draws and that tests write by hand.

use bytes::Bytes;

/// How the answer to a POST goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// This HTTP status.
    Status(u16),
    /// This HTTP status, so many milliseconds later.
    Late(u16, u64),
    /// A redirect (308: with the method and the body) to somewhere else.
    Redirect,
    /// What no HTTP client can make anything of.
    Bytes(Garbage),
    /// Nothing ever comes; the connection stays open.
    Hang,
    /// The connection is closed without an answer.
    Cut,
}

/// Bytes that are no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Garbage {
    /// Nothing of HTTP.
    Noise,
    /// A head that never ends.
    EndlessHead,
    /// 200, and a body that never ends.
    EndlessBody,
}

impl Answer {
    /// Whether its first line is a 2xx: for whoever asks no more than that the POST was taken.
    pub const fn is_success(self) -> bool {
        matches!(self, Self::Status(200..=299) | Self::Late(200..=299, _) | Self::Bytes(Garbage::EndlessBody))
    }
}

/// What happens to a POST instead of what should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PostAct {
    /// Answered as usual, and forgotten.
    Swallow,
    /// Handled as usual, and the answer is this one.
    Answer(Answer),
    /// Not handled, and the answer is this one.
    Refuse(Answer),
    /// Handled twice.
    Twice,
}

/// What happens to a subscribe request instead of the upgrade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubscribeAct {
    /// It gets this answer (429 and 503 as well as 400, or nothing at all).
    Refuse(Answer),
}

/// What happens to a request for a page of history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PageAct {
    /// It gets this answer instead.
    Refuse(Answer),
    /// These bytes are the page.
    Replace(Bytes),
    /// The page has other envelopes at the same places.
    Forge,
}

/// What happens to a frame instead of being sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FrameAct {
    /// Never sent.
    Withhold,
    /// Sent twice.
    Repeat,
    /// Sent after the next one.
    Swap,
    /// These bytes are sent in its place.
    Replace(Bytes),
    /// These bytes are sent first, then the frame.
    Before(Bytes),
    /// A close with this code is sent in its place.
    Close(u16),
    /// The connection is cut without a close.
    Cut,
    /// Neither this frame nor any later one of the connection is sent; it stays open.
    Hang,
}

/// Which frames a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameMatch {
    /// Every one.
    Any,
    /// Those with this first byte (01 hello, 02 ops, 03 ready, 04 gap, 05 reset, 06 signal, 07 slow, 08 head).
    Type(u8),
    /// The one at this place of its connection, from 0.
    Place(u64),
}

/// How often a rule applies.
const ALWAYS: u64 = u64::MAX;

#[derive(Clone, Debug)]
struct Rule<M, A> {
    matches: M,
    act: A,
    skip: u64,
    times: u64,
}

/// The rules of one actor. The first that matches is applied, and used up by it.
#[derive(Clone, Debug, Default)]
pub struct Script {
    posts: Vec<Rule<(), PostAct>>,
    subscribes: Vec<Rule<(), SubscribeAct>>,
    frames: Vec<Rule<FrameMatch, FrameAct>>,
    pages: Vec<Rule<(), PageAct>>,
    applied: u64,
}

impl Script {
    /// The next `times` POSTs go this way.
    pub fn post(&mut self, times: u64, act: PostAct) -> &mut Self {
        self.posts.push(Rule { matches: (), act, skip: 0, times });
        self
    }

    /// Every POST from now on goes this way.
    pub fn every_post(&mut self, act: PostAct) -> &mut Self {
        self.post(ALWAYS, act)
    }

    /// The next `times` subscribe requests go this way.
    pub fn subscribe(&mut self, times: u64, act: SubscribeAct) -> &mut Self {
        self.subscribes.push(Rule { matches: (), act, skip: 0, times });
        self
    }

    /// The next `times` pages of history go this way.
    pub fn page(&mut self, times: u64, act: PageAct) -> &mut Self {
        self.pages.push(Rule { matches: (), act, skip: 0, times });
        self
    }

    /// The next frame that matches goes this way.
    pub fn frame(&mut self, matches: FrameMatch, act: FrameAct) -> &mut Self {
        self.frame_after(matches, 0, 1, act)
    }

    /// After `skip` frames that match, the next `times` go this way.
    pub fn frame_after(&mut self, matches: FrameMatch, skip: u64, times: u64, act: FrameAct) -> &mut Self {
        self.frames.push(Rule { matches, act, skip, times });
        self
    }

    /// Every frame that matches goes this way from now on.
    pub fn every_frame(&mut self, matches: FrameMatch, act: FrameAct) -> &mut Self {
        self.frame_after(matches, 0, ALWAYS, act)
    }

    /// Behaves again.
    pub fn clear(&mut self) {
        *self = Self { applied: self.applied, ..Self::default() };
    }

    /// How often a rule was applied since the last call.
    pub const fn take_applied(&mut self) -> u64 {
        std::mem::replace(&mut self.applied, 0)
    }

    fn note<A>(&mut self, act: Option<A>) -> Option<A> {
        self.applied += u64::from(act.is_some());
        act
    }

    /// What becomes of this POST; `None`: what should.
    pub fn next_post(&mut self) -> Option<PostAct> {
        let act = take(&mut self.posts, |()| true);
        self.note(act)
    }

    /// What becomes of this subscribe request; `None`: the upgrade.
    pub fn next_subscribe(&mut self) -> Option<SubscribeAct> {
        let act = take(&mut self.subscribes, |()| true);
        self.note(act)
    }

    /// What becomes of this page; `None`: it is sent.
    pub fn next_page(&mut self) -> Option<PageAct> {
        let act = take(&mut self.pages, |()| true);
        self.note(act)
    }

    /// What becomes of this frame at `place` of its connection; `None`: it is sent.
    pub fn next_frame(&mut self, place: u64, frame: &[u8]) -> Option<FrameAct> {
        let act = take(&mut self.frames, |matches| match matches {
            FrameMatch::Any => true,
            FrameMatch::Type(kind) => frame.first() == Some(kind),
            FrameMatch::Place(wanted) => *wanted == place,
        });
        self.note(act)
    }
}

fn take<M, A: Clone>(rules: &mut Vec<Rule<M, A>>, fits: impl Fn(&M) -> bool) -> Option<A> {
    let mut found = None;
    for rule in rules.iter_mut().filter(|rule| fits(&rule.matches)) {
        if rule.skip > 0 {
            rule.skip -= 1;
        } else {
            rule.times = if rule.times == ALWAYS { ALWAYS } else { rule.times - 1 };
            found = Some(rule.act.clone());
            break;
        }
    }
    rules.retain(|rule| rule.times > 0);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_skips_then_applies_then_is_used_up() {
        let mut script = Script::default();
        script.frame_after(FrameMatch::Type(2), 1, 2, FrameAct::Withhold);
        let kinds = [1, 2, 2, 3, 2, 2];
        let acts: Vec<_> =
            kinds.iter().enumerate().map(|(at, kind)| script.next_frame(at as u64, &[*kind])).collect();
        let held = Some(FrameAct::Withhold);
        assert_eq!(acts, [None, None, held.clone(), None, held, None]);
        assert_eq!((script.take_applied(), script.take_applied()), (2, 0));
    }

    #[test]
    fn a_standing_rule_stays_until_cleared() {
        let mut script = Script::default();
        script.every_post(PostAct::Swallow);
        assert!((0..10).all(|_| script.next_post() == Some(PostAct::Swallow)));
        script.clear();
        assert_eq!(script.next_post(), None);
    }
}
