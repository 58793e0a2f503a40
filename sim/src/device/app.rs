//! What a device's app says to the engine, and what it hears.

use delta_core::engine::{Command, CommandError, CommandId, Reply};

use crate::trace::short;
use crate::violation::Violation;
use crate::world::{Event, World};

impl World {
    /// The app gives a device a command.
    pub(crate) fn command(&mut self, device: usize, command: Command) -> Option<CommandId> {
        let state = &mut self.devices[device];
        state.engine.as_ref()?;
        let id = CommandId(state.next_command);
        state.next_command += 1;
        if let Command::Publish { topic, content } = &command {
            self.model.issue(device, id, *topic, content.clone());
        } else {
            if let Command::Cancel { topic, operation } = &command {
                self.model.take_back(device, id, *topic, *operation);
            }
            // What is wanted of a connection may begin it anew.
            state.pauses.clear();
            state.asked.insert(id, command.clone());
        }
        state.commands.push_back((id, command));
        self.wish_batch(device);
        Some(id)
    }

    pub(super) fn app_hears_reply(
        &mut self,
        device: usize,
        id: CommandId,
        result: Result<Reply, CommandError>,
    ) -> Result<(), Violation> {
        let now = self.now();
        let Some(result) = self.town_hears(device, id, result)? else { return Ok(()) };
        match result {
            Ok(Reply::Published(operation)) => {
                self.trace
                    .line(now, format_args!("device {device} published {} with {id:?}", short(&operation)));
                let topic = self.model.published(device, id, operation)?;
                self.check_durable(device, topic, operation)?;
            }
            Ok(Reply::Cancelled(how)) => {
                self.devices[device].asked.remove(&id);
                self.trace.line(now, format_args!("device {device} took something back: {how:?}"));
                if let Some((topic, delete)) = self.model.taken_back(device, id, how)? {
                    self.check_durable(device, topic, delete)?;
                }
            }
            Ok(_) => drop(self.devices[device].asked.remove(&id)),
            Err(error) => {
                let words = self.devices[device].plain(&error);
                self.trace.line(now, format_args!("device {device} refuses: {words}"));
                if !self.model.may_not_take_back(device, id, &error) {
                    self.check_refusal(device, &error)?;
                }
                self.model.refused(device, id);
                let state = &mut self.devices[device];
                if let (Some(command), CommandError::Store(_)) = (state.asked.remove(&id), &error) {
                    let life = state.life;
                    let pause = self.rng.skewed(100, 10_000);
                    self.after(pause, Event::Retry { device, life, command });
                }
            }
        }
        Ok(())
    }
}
