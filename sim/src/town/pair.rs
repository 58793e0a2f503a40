//! Somebody pairs a further device, as the client does it (docs/wire.md, section 12.3).

use std::collections::BTreeSet;

use delta_core::engine::{Command, CommandError, Reply};
use delta_core::identity::{Author, Certificate, LogId, Millis, OperationId};
use delta_core::ops::{Body, Content, DeviceKey, OwnDevices, Ticket};
use delta_core::pairing::{PAIRING_LIFETIME_MS, Pairing, Welcome};
use delta_core::store::{Reader, StoreError};

use super::Asked;
use super::kin::{Bond, MAX_DEVICES};
use crate::check::broken;
use crate::violation::{Violation, ensure};
use crate::world::World;

/// Most that is looked at of one device in a pairing's topic.
const MAX_SAID: usize = 8;

/// A pairing that goes on.
#[derive(Debug)]
pub(crate) struct Meeting {
    host: usize,
    guest: usize,
    pairing: Pairing,
    until: Millis,
    own: Option<Ticket>,
    ask: Option<OperationId>,
    /// The answer's nonce, and the answer.
    nonce: [u8; 32],
    answered: Option<OperationId>,
    answer: Option<OperationId>,
    welcomed: bool,
    /// What the new device is to be, and how many commands are left until it is.
    certificate: Option<Certificate>,
    left: usize,
}

/// A step of a pairing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Own,
    Begin,
    Ask,
    Answer,
    Welcome,
    Take,
}

/// What somebody said in a pairing's topic.
struct Said {
    id: OperationId,
    author: Author,
    said: OwnDevices,
}

impl World {
    /// Somebody begins to pair a device: one that is nobody's, or a new one.
    pub(super) fn pair(&mut self, person: usize) -> Result<(), Violation> {
        let Some(town) = &self.town else { return Ok(()) };
        let kin = &town.kin;
        let busy = town.meetings.iter().any(|meeting| kin.person(meeting.host) == person);
        let hosts = kin.devices(person);
        let holds = |device: &usize| self.devices[*device].author().0 == kin.people[person].identity.0;
        let hosts: Vec<usize> =
            hosts.into_iter().filter(|it| kin.people[person].words || holds(it)).collect();
        let spare = |device: &&usize| {
            let certified = self.devices[**device].keystore.certificate.is_some();
            let home = &kin.homes[**device];
            matches!(home.bond, Bond::None | Bond::Loose) && !certified || home.bond == Bond::Own && home.left
        };
        let all = kin.all(person);
        let guest = all.iter().find(spare).copied();
        let Some(host) = self.rng.pick(&hosts).copied().filter(|_| !busy) else { return Ok(()) };
        if kin.homes[host].left {
            return Ok(());
        }
        if let Some(stopped) = guest.filter(|guest| kin.homes[*guest].bond == Bond::Loose) {
            // It must forget what it heard of a pairing that came to nothing.
            return self.kill_device(stopped, false, 10).map(drop);
        }
        let guest = match guest {
            Some(guest) => guest,
            None if kin.devices(person).len() < MAX_DEVICES && all.len() < 2 * MAX_DEVICES => {
                self.add_device(person)
            }
            None => return Ok(()),
        };
        let Ok(pairing) = Pairing::generate(self.devices[host].author(), &mut self.rng) else {
            return Ok(());
        };
        let (until, nonce) = (self.now().plus(PAIRING_LIFETIME_MS), self.rng.bytes());
        let Some(town) = &mut self.town else { return Ok(()) };
        town.passing.insert(pairing.ticket().topic());
        town.meetings.push(Meeting {
            host,
            guest,
            pairing,
            until,
            own: None,
            ask: None,
            nonce,
            answered: None,
            answer: None,
            welcomed: false,
            certificate: None,
            left: 0,
        });
        self.ask(host, Command::OwnTopic { ticket: None }, Asked::Pair(guest, Step::Own));
        Ok(())
    }

    /// An app ends: the pairing that its device was in, unless all was said that the other one waits for.
    pub(super) fn pairing_died(&mut self, device: usize) {
        let certified = self.devices[device].keystore.certificate.is_some();
        let Some(town) = &mut self.town else { return };
        town.meetings.retain(|it| it.guest != device && (it.host != device || it.welcomed));
        let home = &mut town.kin.homes[device];
        if home.bond == Bond::Loose && !certified {
            home.bond = Bond::None;
        }
    }

    /// A pairing's command is answered.
    pub(super) fn pairing_hears(&mut self, guest: usize, step: Step, result: &Result<Reply, CommandError>) {
        let Some(town) = &mut self.town else { return };
        let Some(place) = town.meetings.iter().position(|meeting| meeting.guest == guest) else { return };
        let meeting = &mut town.meetings[place];
        match (step, result) {
            (Step::Own, Ok(Reply::Ticket(own))) => {
                meeting.own = Some(own.clone());
                let (host, ticket) = (meeting.host, meeting.pairing.ticket());
                town.kin.homes[host].linked = true;
                town.kin.own.insert(host, own.log());
                let topic = ticket.topic();
                for device in [host, guest] {
                    let begin = Command::BeginPairing { ticket: ticket.clone() };
                    self.ask(device, begin, Asked::Pair(guest, Step::Begin));
                    self.ask(device, Command::Subscribe { topic }, Asked::Pair(guest, Step::Begin));
                }
                self.say_in_pairing(guest, topic, OwnDevices::Ask, (guest, Step::Ask));
            }
            (Step::Ask, Ok(Reply::Published(ask))) => meeting.ask = Some(*ask),
            (Step::Answer, Ok(Reply::Published(answer))) => meeting.answer = Some(*answer),
            (Step::Begin | Step::Welcome, Ok(_)) => {}
            (
                Step::Take,
                Ok(_) | Err(CommandError::LogTaken | CommandError::TicketConflict | CommandError::OwnTopic),
            ) => {
                meeting.left -= 1;
                if let (0, Some(certificate)) = (meeting.left, meeting.certificate) {
                    let (host, own) = (meeting.host, meeting.own.as_ref().map(Ticket::log));
                    town.kin.own.extend(own.map(|own| (guest, own)));
                    let full = town.kin.homes[host].full;
                    let home = &mut town.kin.homes[guest];
                    (home.bond, home.full, home.linked, home.left) = (Bond::Own, full, true, false);
                    town.meetings.remove(place);
                    self.devices[guest].keystore.certificate = Some(certificate);
                    let now = self.now();
                    self.trace.line(now, format_args!("device {guest} is paired with device {host}"));
                }
            }
            _ => drop(town.meetings.remove(place)),
        }
    }

    fn say_in_pairing(
        &mut self,
        device: usize,
        topic: delta_core::topic::TopicId,
        said: OwnDevices,
        (guest, step): (usize, Step),
    ) {
        let content = Content::OwnDevices(Box::new(said));
        self.ask(device, Command::Publish { topic, content }, Asked::Pair(guest, step));
    }

    /// The pairings that a device takes part in go on, as far as they can.
    pub(super) fn pairings_go_on(&mut self, device: usize) -> Result<(), Violation> {
        let now = self.now();
        let Some(town) = &mut self.town else { return Ok(()) };
        town.meetings.retain(|meeting| meeting.until > now);
        let its = |meeting: &Meeting| meeting.host == device || meeting.guest == device;
        let Some(place) = town.meetings.iter().position(its) else { return Ok(()) };
        let meeting = &town.meetings[place];
        let (host, guest, ticket) = (meeting.host, meeting.guest, meeting.pairing.ticket());
        let there = said_in(self.reader(device)?, ticket.log()).map_err(|error| broken(device, &error))?;
        let host_key = self.devices[host].author();
        let Some(town) = &mut self.town else { return Ok(()) };
        let meeting = &mut town.meetings[place];
        if device == host && meeting.answered.is_none() {
            let ask = there.iter().find(|it| it.said == OwnDevices::Ask && it.author != host_key);
            let Some(ask) = ask.map(|it| it.id) else { return Ok(()) };
            meeting.answered = Some(ask);
            let said = OwnDevices::Answer { ask, nonce: meeting.nonce };
            self.say_in_pairing(host, ticket.topic(), said, (guest, Step::Answer));
            return Ok(());
        }
        if device == host {
            return Ok(());
        }
        let by_host = || there.iter().filter(|it| it.author == host_key);
        let answered = by_host().find_map(|it| match it.said {
            OwnDevices::Answer { ask, nonce } if Some(ask) == meeting.ask => Some(nonce),
            _ => None,
        });
        let Some((nonce, ask)) = answered.zip(meeting.ask) else { return Ok(()) };
        if !meeting.welcomed {
            let codes = (meeting.pairing.code(ask, &nonce), meeting.answered);
            ensure!(
                codes.1.is_some_and(|asked| meeting.pairing.code(asked, &meeting.nonce) == codes.0),
                "device {host} and device {guest} show different codes"
            );
            return self.welcome(place);
        }
        let sealed = by_host().find_map(|it| match &it.said {
            OwnDevices::Welcome { answer, sealed } if Some(*answer) == meeting.answer => Some(sealed.clone()),
            _ => None,
        });
        match sealed.filter(|_| meeting.certificate.is_none()) {
            Some(sealed) => self.take_welcome(place, sealed),
            None => Ok(()),
        }
    }

    /// Its person has compared the codes.
    fn welcome(&mut self, place: usize) -> Result<(), Violation> {
        let now = self.now();
        let Some(town) = &mut self.town else { return Ok(()) };
        let meeting = &mut town.meetings[place];
        let (Some(own), Some(answer)) = (meeting.own.clone(), meeting.answer) else { return Ok(()) };
        let (host, guest, topic) = (meeting.host, meeting.guest, meeting.pairing.ticket().topic());
        if self.devices[host].engine.is_none() {
            return Ok(());
        }
        // Where it lives now, as the client looks.
        let own = self.newest(host, own.log())?.unwrap_or(own);
        let Some(town) = &mut self.town else { return Ok(()) };
        let meeting = &mut town.meetings[place];
        meeting.welcomed = true;
        let home = &mut town.kin.homes[guest];
        home.bond = Bond::Loose;
        let key = &town.kin.people[home.person].key;
        let certificate = Certificate::sign(key, self.devices[guest].author(), now);
        let tickets = tickets(self.reader(host)?, own.log()).map_err(|error| broken(host, &error))?;
        let welcome = Welcome { certificate, own, tickets };
        let sealed = welcome.seal(&self.devices[host].author(), &mut self.rng);
        let sealed =
            sealed.map_err(|error| Violation::new(format!("a welcome cannot be sealed: {error}")))?;
        self.say_in_pairing(host, topic, OwnDevices::Welcome { answer, sealed }, (guest, Step::Welcome));
        Ok(())
    }

    /// The new device becomes its person's; its keystore learns of it last.
    fn take_welcome(&mut self, place: usize, sealed: Vec<u8>) -> Result<(), Violation> {
        let Some(town) = &mut self.town else { return Ok(()) };
        let meeting = &mut town.meetings[place];
        let (host, guest) = (meeting.host, meeting.guest);
        let (key, host_key) = (DeviceKey::from_bytes(self.devices[guest].key()), self.devices[host].author());
        let Welcome { certificate, own, tickets } = Welcome::open(&key, &host_key, sealed)
            .map_err(|error| Violation::new(format!("device {guest} cannot open its welcome: {error}")))?;
        let topic = meeting.pairing.ticket().topic();
        let first = [Command::Certify { certificate }, Command::OwnTopic { ticket: Some(own) }];
        let meet = tickets.into_iter().map(|ticket| Command::Meet { ticket });
        let commands: Vec<_> = first.into_iter().chain(meet).chain([Command::EndPairing { topic }]).collect();
        (meeting.certificate, meeting.left) = (Some(certificate), commands.len());
        for command in commands {
            self.ask(guest, command, Asked::Pair(guest, Step::Take));
        }
        Ok(())
    }
}

fn said_in(reader: &Reader, log: LogId) -> Result<Vec<Said>, StoreError> {
    let mut there = Vec::new();
    for head in reader.log_heads(&log)? {
        for stored in reader.log_entries(&head.author, &log, 0, u32::MAX, MAX_SAID)? {
            let Some(Ok(body)) = stored.body.as_deref().map(Body::decode) else { continue };
            let Content::OwnDevices(said) = body.content else { continue };
            let place = reader.place_of(&stored.id)?.map(|stored| stored.place);
            there.push((place, Said { id: stored.id, author: stored.author, said: *said }));
        }
    }
    there.sort_by_key(|(place, it)| (*place, it.id));
    Ok(there.into_iter().map(|(_, it)| it).collect())
}

/// What a device of the person is to have; of each conversation the newest first.
fn tickets(reader: &Reader, own: LogId) -> Result<Vec<Ticket>, StoreError> {
    let left_out: BTreeSet<_> = reader.pairings()?.into_iter().map(|it| it.log).chain([own]).collect();
    let mut tickets: Vec<_> = reader.topics()?.into_iter().map(|row| row.ticket).collect();
    tickets.retain(|ticket| !left_out.contains(&ticket.log()) && !ticket.is_of_one_device());
    tickets.sort_by_key(|ticket| (ticket.log(), std::cmp::Reverse(ticket.epoch())));
    Ok(tickets)
}
