//! Pairing: a further device of a person. Both devices wait for each other, so each side is an object that can be
//! cancelled, and that can be asked again when a wait was given up.

use std::sync::{Arc, Mutex, PoisonError};

use delta_client::{ClientError, PairingFailure};
use delta_core::identity::{Author, Identity};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use zeroize::Zeroizing;

use crate::error::DeltaError;
use crate::runtime::on;

/// A device of this person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, uniffi::Record)]
pub struct OwnDevice {
    /// The device.
    pub device: Author,
    /// It is this one.
    pub this: bool,
    /// It was revoked.
    pub revoked: bool,
}

impl From<delta_client::OwnDevice> for OwnDevice {
    fn from(device: delta_client::OwnDevice) -> Self {
        let delta_client::OwnDevice { device, this, revoked } = device;
        Self { device, this, revoked }
    }
}

/// Where one side of a pairing stands.
enum Stage<Waits, Done> {
    Waits(Waits),
    Done(Done),
    Over,
}

type Shared<Waits, Done> = Arc<tokio::sync::Mutex<Stage<Waits, Done>>>;

/// What is done for one side of a pairing. It ends with the object.
struct Work {
    runtime: Handle,
    /// `None`: nothing is done any more.
    running: Mutex<Option<Vec<AbortHandle>>>,
}

impl Work {
    fn new(runtime: &Handle) -> Self {
        Self { runtime: runtime.clone(), running: Mutex::new(Some(Vec::new())) }
    }

    /// Goes on when the caller gives up: what came of it is there for the next who asks.
    async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, ClientError>> + Send + 'static,
    ) -> Result<T, DeltaError> {
        let call = on(&self.runtime, work).ended(over);
        match &mut *self.running.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(running) => {
                running.retain(|task| !task.is_finished());
                running.push(call.abort_handle());
            }
            None => call.abort_handle().abort(),
        }
        call.await
    }

    fn cancel(&self) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        running.into_iter().flatten().for_each(|task| task.abort());
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.cancel();
    }
}

fn over() -> ClientError {
    PairingFailure::Expired.into()
}

/// A pairing on the device that holds the person's words.
// Not `Debug`: the text is a secret.
#[derive(uniffi::Object)]
pub struct PairingHost {
    text: Zeroizing<String>,
    stage: Shared<delta_client::PairingHost, Arc<PairingRequest>>,
    work: Work,
}

#[uniffi::export]
impl PairingHost {
    /// What to show, as text or QR code, for ten minutes. A secret: whoever has it may ask to be paired.
    pub fn text(&self) -> String {
        self.text.to_string()
    }

    /// Waits for the first device that asks; again gives the same. Fails with `pairing_expired` when none does in time, or
    /// when the pairing is cancelled.
    pub async fn asked(&self) -> Result<Arc<PairingRequest>, DeltaError> {
        let (stage, runtime) = (Arc::clone(&self.stage), self.work.runtime.clone());
        self.work
            .run(async move {
                let mut stage = stage.lock().await;
                match std::mem::replace(&mut *stage, Stage::Over) {
                    Stage::Waits(host) => {
                        let request = Arc::new(PairingRequest::new(&runtime, host.asked().await?));
                        *stage = Stage::Done(Arc::clone(&request));
                        Ok(request)
                    }
                    Stage::Done(request) => {
                        *stage = Stage::Done(Arc::clone(&request));
                        Ok(request)
                    }
                    Stage::Over => Err(over()),
                }
            })
            .await
    }

    /// Waits no longer: the text is worth nothing any more. Again is harmless.
    pub fn cancel(&self) {
        self.work.cancel();
    }
}

impl PairingHost {
    pub(crate) fn new(runtime: &Handle, host: delta_client::PairingHost) -> Self {
        let (text, stage) =
            (Zeroizing::new(host.text()), Arc::new(tokio::sync::Mutex::new(Stage::Waits(host))));
        Self { text, stage, work: Work::new(runtime) }
    }
}

/// A device that asks to become this person's.
#[derive(uniffi::Object)]
pub struct PairingRequest {
    device: Author,
    code: String,
    stage: Shared<delta_client::PairingRequest, Answer>,
    work: Work,
}

/// What was said to a device that asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    Accepted,
    Refused,
}

#[uniffi::export]
impl PairingRequest {
    /// The key of the device that asks.
    pub fn device(&self) -> Author {
        self.device
    }

    /// Six digits. Show them; accept the device only when its person sees the same there.
    pub fn code(&self) -> String {
        self.code.clone()
    }

    /// Makes the device this person's and hands it the person's topics: the server has it when this returns. Given up, it goes
    /// on; again is harmless. Fails with `pairing_expired` when the ten minutes were over first: the device may have become
    /// the person's all the same, so revoke it if it is not to. The same after `refuse`.
    pub async fn accept(&self) -> Result<(), DeltaError> {
        self.answer(Answer::Accepted).await
    }

    /// Says that the device is not to be this person's, so that it does not wait for the end of the ten minutes: for when the
    /// codes differ. The server has it when this returns. Given up, it goes on; again is harmless. Fails with
    /// `pairing_expired` when the ten minutes were over first, or the device was accepted before: revoke it then.
    pub async fn refuse(&self) -> Result<(), DeltaError> {
        self.answer(Answer::Refused).await
    }
}

impl PairingRequest {
    /// The first answer counts.
    async fn answer(&self, answer: Answer) -> Result<(), DeltaError> {
        let stage = Arc::clone(&self.stage);
        self.work
            .run(async move {
                let mut stage = stage.lock().await;
                match std::mem::replace(&mut *stage, Stage::Over) {
                    Stage::Waits(request) => {
                        let handover = match answer {
                            Answer::Accepted => request.accept().await?,
                            Answer::Refused => request.refuse().await?,
                        };
                        handover.delivered().await?;
                        *stage = Stage::Done(answer);
                    }
                    Stage::Done(given) => {
                        *stage = Stage::Done(given);
                        if given != answer {
                            return Err(over());
                        }
                    }
                    Stage::Over => return Err(over()),
                }
                Ok(())
            })
            .await
    }

    fn new(runtime: &Handle, request: delta_client::PairingRequest) -> Self {
        let (device, code) = (request.device(), request.code().to_string());
        let stage = Arc::new(tokio::sync::Mutex::new(Stage::Waits(request)));
        Self { device, code, stage, work: Work::new(runtime) }
    }
}

/// A pairing on the device that was given the text.
#[derive(uniffi::Object)]
pub struct PairingGuest {
    stage: Shared<delta_client::PairingGuest, Identity>,
    work: Work,
}

#[uniffi::export]
impl PairingGuest {
    /// Waits for the device of the text. Show the six digits: its person compares them there. Fails with `pairing_taken`
    /// when another device was answered: somebody else has the text, so confirm nothing.
    pub async fn code(&self) -> Result<String, DeltaError> {
        let stage = Arc::clone(&self.stage);
        self.work
            .run(async move {
                match &mut *stage.lock().await {
                    Stage::Waits(guest) => Ok(guest.code().await?.to_string()),
                    _ => Err(over()),
                }
            })
            .await
    }

    /// Waits until the other device has accepted, and becomes a device of its person: with the person's topics, which fill
    /// as they are read. Again gives the same.
    pub async fn joined(&self) -> Result<Identity, DeltaError> {
        let stage = Arc::clone(&self.stage);
        self.work
            .run(async move {
                let mut stage = stage.lock().await;
                let identity = match std::mem::replace(&mut *stage, Stage::Over) {
                    Stage::Waits(guest) => guest.joined().await?,
                    Stage::Done(identity) => identity,
                    Stage::Over => return Err(over()),
                };
                *stage = Stage::Done(identity);
                Ok(identity)
            })
            .await
    }

    /// Waits no longer. Again is harmless.
    pub fn cancel(&self) {
        self.work.cancel();
    }
}

impl PairingGuest {
    pub(crate) fn new(runtime: &Handle, guest: delta_client::PairingGuest) -> Self {
        let stage = Arc::new(tokio::sync::Mutex::new(Stage::Waits(guest)));
        Self { stage, work: Work::new(runtime) }
    }
}
