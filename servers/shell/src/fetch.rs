//! Fetches a public text: a list, records. One GET under the address rules of [`connect`](crate::connect), without
//! redirects, with an end to time and size.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use thiserror::Error;

use crate::connect::{ConnectError, Connector, Destination, Resolve};

/// A text that has not come by then does not come.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A text cannot be fetched. Whoever serves it is at fault, or the network; try again later.
#[derive(Debug, Error)]
pub enum FetchError {
    /// This is no URL.
    #[error("this is no URL of a host")]
    Url,
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The exchange broke off.
    #[error("the exchange broke off")]
    Http(#[from] hyper::Error),
    /// Not answered with 200. Redirects are not followed.
    #[error("it was answered with {0}")]
    Status(StatusCode),
    /// The body broke off or is longer than allowed.
    #[error("the body broke off or has more than {limit} bytes")]
    Body {
        /// How many bytes are taken.
        limit: usize,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Not UTF-8.
    #[error("the body is not text")]
    NotText,
    /// It took too long.
    #[error("it took longer than {} s", TIMEOUT.as_secs())]
    TimedOut,
}

/// The text at `url`, at most `limit` bytes of it.
pub async fn fetch<R: Resolve>(
    connector: &Connector<R>,
    url: &str,
    limit: usize,
) -> Result<String, FetchError> {
    let to = Destination::new(url, "").ok_or(FetchError::Url)?;
    let fetching = tokio::time::timeout(TIMEOUT, fetch_untimed(connector, &to, limit));
    fetching.await.unwrap_or(Err(FetchError::TimedOut))
}

async fn fetch_untimed<R: Resolve>(
    connector: &Connector<R>,
    to: &Destination,
    limit: usize,
) -> Result<String, FetchError> {
    let stream = connector.connect(to).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Ends with the sender, at the latest when this function is dropped.
    let connection = tokio::spawn(connection);
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.uri_mut() = to.path().clone();
    request.headers_mut().insert(HOST, to.host_header().clone());
    let response = sender.send_request(request).await?;
    if response.status() != StatusCode::OK {
        return Err(FetchError::Status(response.status()));
    }
    let body = Limited::new(response.into_body(), limit).collect().await;
    let body = body.map_err(|source| FetchError::Body { limit, source })?.to_bytes();
    connection.abort();
    String::from_utf8(body.into()).map_err(|_| FetchError::NotText)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::connect::{SystemResolver, Timeouts};

    /// A server that answers every request with these bytes.
    async fn server(answer: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/list.json", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 1024];
                let len = stream.read(&mut request).await.unwrap();
                assert!(request[..len].starts_with(b"GET /list.json HTTP/1.1\r\n"));
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        url
    }

    async fn ask(url: &str, allow_private: bool) -> Result<String, FetchError> {
        let connector = Connector::new(SystemResolver, allow_private, Timeouts::default()).unwrap();
        fetch(&connector, url, 8).await
    }

    #[tokio::test]
    async fn a_text_is_fetched_up_to_its_limit_and_nothing_is_followed() {
        let good = server("HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\n12345678").await;
        assert_eq!(ask(&good, true).await.unwrap(), "12345678");
        let long = server("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n123456789").await;
        assert!(matches!(ask(&long, true).await, Err(FetchError::Body { limit: 8, .. })));
        let moved = server("HTTP/1.1 302 Found\r\nlocation: /x\r\ncontent-length: 0\r\n\r\n").await;
        assert!(matches!(ask(&moved, true).await, Err(FetchError::Status(StatusCode::FOUND))));
        let bytes = server("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n\u{7ff}").await;
        assert_eq!(ask(&bytes, true).await.unwrap(), "\u{7ff}");
        assert!(matches!(ask(&good, false).await, Err(FetchError::Connect(ConnectError::Forbidden))));
        assert!(matches!(ask("nonsense", true).await, Err(FetchError::Url)));
    }
}
