//! What arrives on a device's sockets, in order, and the work of its pool.

use bytes::Bytes;
use delta_core::engine::{self, Input};
use delta_core::sync::session::ConnId;

use super::{Phase, Slot};
use crate::faults::Fault;
use crate::stream::Item;
use crate::world::{Event, World};

impl World {
    /// Something arrives on a socket.
    pub(crate) fn device_receives(&mut self, device: usize, life: u64, conn: ConnId, item: Item) {
        let now = self.now();
        let state = &mut self.devices[device];
        if state.life != life {
            return;
        }
        let Some(socket) = state.conns.get_mut(&conn) else { return };
        match item {
            Item::Open => {
                socket.phase = Phase::Open;
                socket.slots.push_back(Slot::Input(Input::Connected { conn }));
            }
            later if socket.phase == Phase::Open => return socket.early.push_back(later),
            Item::Message(message) => return self.device_triage(device, conn, message),
            Item::Closed { retry_after_ms } => {
                self.trace.line(now, format_args!("device {device} loses {conn:?}"));
                socket.slots.push_back(Slot::Input(Input::Disconnected { conn, retry_after_ms }));
            }
            Item::TunnelLost => {
                self.trace.line(now, format_args!("device {device} loses the tunnel of {conn:?}"));
                socket.slots.push_back(Slot::Input(Input::TunnelFailed { conn, retry_after_ms: 0 }));
            }
        }
        state.flush(conn);
        self.wish_batch(device);
    }

    /// The engine knows that a socket is open: what came meanwhile can be looked at.
    pub(super) fn device_opened(&mut self, device: usize, conn: ConnId) {
        let Some(socket) = self.devices[device].conns.get_mut(&conn) else { return };
        socket.phase = Phase::Known;
        let early = std::mem::take(&mut socket.early);
        let life = self.devices[device].life;
        early.into_iter().for_each(|item| self.device_receives(device, life, conn, item));
    }

    fn device_triage(&mut self, device: usize, conn: ConnId, message: Bytes) {
        let now = self.now();
        let kind = message.first().copied().unwrap_or(0);
        self.trace.line(
            now,
            format_args!("device {device} gets frame {kind:02x}, {} bytes, {conn:?}", message.len()),
        );
        self.trace.bytes(&message);
        let failing = self.faults.may_strike(Fault::Entropy, 20, &mut self.rng);
        let told = self.device_now(device);
        let state = &mut self.devices[device];
        let Some(engine) = state.engine.as_mut() else { return };
        state.entropy.failing = failing;
        let before = state.entropy.failed;
        let jobs = engine.triage(told, conn, message, &mut state.entropy);
        state.entropy.failing = false;
        self.faults.count(Fault::Entropy, state.entropy.failed - before);
        let life = state.life;
        for job in jobs {
            let state = &mut self.devices[device];
            let id = state.next_job;
            state.next_job += 1;
            let Some(socket) = state.conns.get_mut(&conn) else { break };
            socket.slots.push_back(Slot::Job { id, job: Some(job), done: None });
            let delay = if self.rng.chance(900) { self.rng.below(5) } else { self.rng.skewed(5, 400) };
            self.after(delay, Event::DeviceJob { device, life, job: id });
        }
        // Triage may have given the connection up.
        self.devices[device].inputs.push_back(Input::Timeout);
        self.wish_batch(device);
    }

    /// A job of the pool is done; jobs finish in any order.
    pub(crate) fn device_job(&mut self, device: usize, life: u64, job: u64) {
        let state = &mut self.devices[device];
        if state.life != life {
            return;
        }
        let mut finished = None;
        for (conn, socket) in &mut state.conns {
            for slot in &mut socket.slots {
                if let Slot::Job { id, job: work, done } = slot
                    && *id == job
                    && let Some(work) = work.take()
                {
                    *done = Some(Input::Opened(engine::open(work)));
                    finished = Some(*conn);
                }
            }
        }
        if let Some(conn) = finished {
            state.flush(conn);
            self.wish_batch(device);
        }
    }
}
