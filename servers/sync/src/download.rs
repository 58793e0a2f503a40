//! Long answers: a client that asks and does not read holds a share of what may be on its way, and no more.

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use delta_server_shell::limit::Share;
use hyper::body::{Body as HttpBody, Frame, SizeHint};

use crate::app::App;
use crate::health::Permit;

/// How much is handed to the connection at once: what it holds is no longer counted here.
const PIECE: usize = 32 * 1024;

/// Bytes on their way to a client, and their share; given back with the last piece.
#[derive(Debug)]
struct Download {
    rest: Bytes,
    _held: (Share, Permit),
}

impl HttpBody for Download {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let piece = self.rest.len().min(PIECE);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}

/// An answer for one address; `None` when too much is on its way to it, or to all.
pub fn body(app: &App, to: IpAddr, bytes: impl Into<Bytes>) -> Option<Body> {
    let rest = bytes.into();
    let share = app.downloads_each.take(to, rest.len() as u64)?;
    let permit = app.downloads.take(rest.len())?;
    Some(Body::new(Download { rest, _held: (share, permit) }))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use delta_server_shell::limit::Shares;
    use http_body_util::BodyExt;

    use super::*;
    use crate::health::Budget;

    #[tokio::test]
    async fn the_share_is_held_until_the_last_piece_is_handed_over() {
        let (shares, budget) = (Arc::new(Shares::new(100_000)), Arc::new(Budget::new(0)));
        let address = IpAddr::from([192, 0, 2, 1]);
        let rest = Bytes::from(vec![7; 2 * PIECE + 1]);
        let held = (shares.take(address, 65_537).unwrap(), budget.take(65_537).unwrap());
        let mut download = Download { rest: rest.clone(), _held: held };
        assert_eq!(download.size_hint().exact(), Some(65_537));
        let mut read = Vec::new();
        while let Some(frame) = download.frame().await {
            let piece = frame.unwrap().into_data().unwrap();
            assert!(piece.len() <= PIECE);
            read.extend_from_slice(&piece);
            assert!(shares.take(address, 65_537).is_none(), "still held");
        }
        assert_eq!((read, budget.used()), (rest.to_vec(), 65_537));
        drop(download);
        assert!(shares.take(address, 65_537).is_some() && budget.used() == 0);
    }
}
