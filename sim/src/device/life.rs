//! A device's clock, sleep, start and death.

use delta_core::crypto::generate_repeatably;
use delta_core::engine::{Command, Engine};
use delta_core::identity::Millis;
use delta_core::ops::{DeviceKey, Ticket};
use delta_core::store::Store;

use crate::disk;
use crate::net::PING_TIMEOUT_MS;
use crate::stream::StreamId;
use crate::violation::Violation;
use crate::world::{Event, World};

impl World {
    /// The time as a device's driver tells it: never back, as the client's clock.
    pub(crate) fn device_now(&mut self, device: usize) -> Millis {
        let now = self.now();
        let state = &mut self.devices[device];
        let wall = Millis(now.0.saturating_add_signed(state.skew_ms));
        let passed = now.0.saturating_sub(state.slept_ms);
        let told = match state.clock {
            None => wall,
            Some((last, at)) => wall.max(last.plus(passed.saturating_sub(at))),
        };
        state.clock = Some((told, passed));
        told
    }

    /// Suspends a device; says whether it was awake. The server finds its sockets dead.
    pub(crate) fn sleep(&mut self, device: usize, lasts_ms: u64) -> bool {
        let now = self.now();
        let state = &mut self.devices[device];
        if state.engine.is_none() || state.asleep_until.is_some_and(|until| until > now) {
            return false;
        }
        state.asleep_until = Some(now.plus(lasts_ms));
        state.slept_ms += lasts_ms;
        self.trace.line(now, format_args!("device {device} sleeps for {lasts_ms} ms"));
        if lasts_ms > PING_TIMEOUT_MS {
            let its = self.streams.iter().filter(|(_, stream)| stream.device == device);
            let its: Vec<_> = its.map(|(id, _)| *id).collect();
            for stream in its {
                let _ = self.cut_stream(stream);
            }
        }
        true
    }

    /// Until when a device sleeps, if it does.
    pub(crate) fn asleep_until(&self, device: usize) -> Option<Millis> {
        self.devices[device].asleep_until.filter(|until| *until > self.now())
    }

    pub(crate) fn disk_frees(&mut self, device: usize, life: u64) -> Result<(), Violation> {
        let state = &mut self.devices[device];
        if state.life == life && state.limit_disk(false)? {
            let now = self.now();
            self.trace.line(now, format_args!("the disk of device {device} has room again"));
        }
        Ok(())
    }

    /// Opens a device's database and tells its engine what the app wants.
    pub(crate) fn start_device(&mut self, device: usize) -> Result<(), Violation> {
        let now = self.now();
        let state = &mut self.devices[device];
        if state.engine.is_some() {
            return Ok(());
        }
        self.trace.line(now, format_args!("device {device} starts"));
        let fail =
            |error: &dyn std::fmt::Display| Violation::new(format!("device {device} cannot open: {error}"));
        let mut store =
            Store::open(state.file(), disk::options(state.pending)).map_err(|error| fail(&error))?;
        let told = self.device_now(device);
        if self.town.is_some() {
            self.judge_copy(device, &mut store, told)?;
        }
        let state = &mut self.devices[device];
        let key = DeviceKey::from_bytes(&state.key);
        let key = match state.keystore.certificate {
            Some(certificate) => key.certified(certificate).map_err(|error| fail(&error))?,
            None => key,
        };
        let state = &mut self.devices[device];
        let engine = Engine::open(store, key, told).map_err(|error| fail(&error))?;
        state.reader = Some(engine.reader().map_err(|error| fail(&error))?);
        state.engine = Some(engine);
        state.synced = disk::Synced::now(&state.file());
        let (tickets, wanted) = (state.tickets.clone(), state.wanted.clone());
        self.check_reopened(device)?;
        if self.rng.chance(800) {
            self.command(device, Command::Configure(self.network.clone()));
            self.open_topics(device, tickets, &wanted);
        } else {
            self.open_topics(device, tickets, &wanted);
            self.command(device, Command::Configure(self.network.clone()));
        }
        if self.town.is_some() {
            self.open_inbox(device, told)?;
        }
        Ok(())
    }

    /// Where others can write to a device; again is harmless.
    fn open_inbox(&mut self, device: usize, told: Millis) -> Result<(), Violation> {
        let secrets = generate_repeatably(*self.devices[device].key(), told);
        let secrets =
            secrets.map_err(|error| Violation::new(format!("device {device} cannot draw keys: {error}")))?;
        self.command(device, Command::OpenInbox { secrets: Some(Box::new(secrets)) });
        Ok(())
    }

    fn open_topics(&mut self, device: usize, tickets: Vec<Ticket>, wanted: &[bool]) {
        for (ticket, wanted) in tickets.into_iter().zip(wanted) {
            let topic = ticket.topic();
            self.command(device, Command::OpenTopic { ticket });
            if *wanted {
                self.command(device, Command::Subscribe { topic });
            }
        }
    }

    /// Kills a device between two transactions. What its engine handed out and its driver has not done yet is lost
    /// or done, by chance. Says whether it ran.
    pub(crate) fn kill_device(
        &mut self,
        device: usize,
        power_loss: bool,
        down_ms: u64,
    ) -> Result<bool, Violation> {
        let now = self.now();
        let state = &mut self.devices[device];
        let Some(engine) = state.engine.take() else { return Ok(false) };
        let how = if power_loss { "loses power" } else { "is killed" };
        self.trace.line(now, format_args!("device {device} {how} for {down_ms} ms"));
        let old = state.file();
        state.disks += 1;
        let new = state.file();
        let copied = if power_loss {
            // A cursor that was not synced may go back with the operations it stands for.
            state.cursors.clear();
            disk::lose_power(&old, &new, &state.synced, &mut self.rng)
        } else {
            disk::kill(&old, &new)
        };
        copied.map_err(|error| Violation::new(format!("cannot copy a database: {error}")))?;
        state.reader = None;
        drop(engine);
        disk::remove(&old);
        state.life += 1;
        (state.clock, state.asleep_until, state.full) = (None, None, false);
        state.asked.clear();
        state.pauses.clear();
        state.commands.clear();
        state.inputs.clear();
        (state.batch_due, state.wake_at) = (false, None);
        let streams: Vec<StreamId> =
            std::mem::take(&mut state.conns).into_values().map(|conn| conn.stream).collect();
        self.model.died(device);
        self.town_died(device);
        streams.into_iter().for_each(|stream| self.close_stream(stream));
        self.after(down_ms, Event::DeviceStart { device });
        Ok(true)
    }
}
