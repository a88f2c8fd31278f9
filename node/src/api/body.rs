//! Bodies of requests and answers: JSON, or CBOR where the caller says so.

use std::fmt::Display;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::FromRequest;
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt as _;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::codec;
use super::error::Problem;

/// Longest body, in bytes: 10,000 hashes in JSON take 760 KB.
pub(super) const MAX_BODY: usize = 4 * 1024 * 1024;

/// How much of a longer one is read before the connection is closed on the caller.
const MAX_THROWN_AWAY: usize = 64 * 1024 * 1024;

/// How long the next part of a body may take to arrive.
const STALL: Duration = Duration::from_secs(10);

const CBOR: &str = "application/cbor";

/// How a body is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Encoding {
    Json,
    Cbor,
}

impl Encoding {
    fn of(headers: &HeaderMap, name: header::HeaderName) -> Option<Self> {
        let value = headers.get(name)?.to_str().ok()?;
        let kind = value.split([';', ',']).next()?.trim();
        match kind {
            CBOR => Some(Self::Cbor),
            "application/json" | "text/json" => Some(Self::Json),
            _ => None,
        }
    }

    /// The encoding that the caller wants answers in: that of `Accept`, else that of its own body, else JSON.
    pub(super) fn wanted(headers: &HeaderMap) -> Self {
        let asked = Self::of(headers, header::ACCEPT).or_else(|| Self::of(headers, header::CONTENT_TYPE));
        asked.unwrap_or(Self::Json)
    }

    /// An answer in this encoding.
    pub(super) fn answer<T: Serialize>(self, value: &T) -> Response {
        let (kind, bytes) = match self {
            Self::Json => ("application/json", serde_json::to_vec(value).map_err(|error| error.to_string())),
            Self::Cbor => (CBOR, codec::encode(value)),
        };
        match bytes {
            Ok(bytes) => {
                let mut response = Response::new(Body::from(bytes));
                response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
                response
            }
            Err(error) => Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error).into_response(),
        }
    }
}

/// A request's body, read, with the encoding that the answer should have.
pub(super) struct Read<T> {
    pub(super) value: T,
    pub(super) encoding: Encoding,
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Read<T> {
    type Rejection = Problem;

    async fn from_request(request: axum::extract::Request, _: &S) -> Result<Self, Problem> {
        Self::of(request).await
    }
}

impl<T: DeserializeOwned> Read<T> {
    /// Reads a request's body.
    pub(super) async fn of<B>(request: Request<B>) -> Result<Self, Problem>
    where
        B: HttpBody<Data = Bytes, Error: Display> + Unpin,
    {
        let (parts, body) = request.into_parts();
        // What says nothing of its kind is taken for JSON, as curl's -d is.
        let cbor = Encoding::of(&parts.headers, header::CONTENT_TYPE) == Some(Encoding::Cbor);
        let bytes = collect(body, STALL).await?;
        let value = if cbor {
            codec::decode(&bytes)
                .map_err(|error| Problem::bad(format!("the body is not what was expected: {error}")))?
        } else {
            serde_json::from_slice(&bytes)
                .map_err(|error| Problem::bad(format!("the body is not what was expected: {error}")))?
        };
        Ok(Self { value, encoding: Encoding::wanted(&parts.headers) })
    }
}

/// Reads a body. One that is too long is read on for a while and thrown away: a caller that is cut off while it sends
/// would see a broken connection instead of the answer that says why.
async fn collect<B>(mut body: B, patience: Duration) -> Result<Bytes, Problem>
where
    B: HttpBody<Data = Bytes, Error: Display> + Unpin,
{
    let stalled = |_| Problem::new(StatusCode::REQUEST_TIMEOUT, "the body stopped arriving");
    let mut bytes = Vec::new();
    let mut length = 0;
    while let Some(frame) = timeout(patience, body.frame()).await.map_err(stalled)? {
        let frame = frame.map_err(|error| Problem::bad(format!("the body was cut short: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        length += data.len();
        if length <= MAX_BODY {
            bytes.extend_from_slice(&data);
        } else {
            bytes = Vec::new();
            if length > MAX_THROWN_AWAY {
                break;
            }
        }
    }
    if length > MAX_BODY {
        let message = format!("the body is longer than {MAX_BODY} bytes; send fewer items at a time");
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, message));
    }
    Ok(bytes.into())
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures::{StreamExt as _, stream};

    use super::*;

    #[tokio::test]
    async fn a_body_that_stalls_is_given_up() {
        let begun = stream::iter([Ok::<_, Infallible>("{\"hashes\":")]);
        let stalled = Body::from_stream(begun.clone().chain(stream::pending()));
        let problem = collect(stalled, Duration::from_millis(1)).await.unwrap_err();
        assert_eq!(problem.into_response().status(), StatusCode::REQUEST_TIMEOUT);
        assert_eq!(collect(Body::from_stream(begun), STALL).await.unwrap(), "{\"hashes\":");
    }
}
