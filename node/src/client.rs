//! Speaking to a node through its sockets: what the command line uses, and any other Rust program may.

use std::path::{Path, PathBuf};

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use crate::folder::Folder;

/// A connection to a socket of a node.
pub struct Client {
    sender: SendRequest<Full<Bytes>>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No node answers there.
    #[error("no node answers at {path}: {error}. Is it running (hashmesh run), and is --data right?")]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// The connection broke.
    #[error("the node has gone away")]
    Gone(#[from] hyper::Error),
    /// The request has no JSON form, or the answer is not what was expected.
    #[error("the node answers in a form that is not understood here")]
    Form(#[from] serde_json::Error),
    /// The node cannot do it now; it can be asked again.
    #[error("{0}")]
    Later(String),
    /// The node refuses.
    #[error("{message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// Why.
        message: String,
    },
}

impl Client {
    /// Connects to the admin socket of the node in a folder.
    pub async fn admin(folder: &Folder) -> Result<Self, ClientError> {
        Self::connect(&folder.admin_socket()).await
    }

    /// Connects to the query socket of the node in a folder.
    pub async fn query(folder: &Folder) -> Result<Self, ClientError> {
        Self::connect(&folder.query_socket()).await
    }

    /// Connects to the feed socket of the node in a folder, if it has one.
    pub async fn feed(folder: &Folder) -> Result<Self, ClientError> {
        Self::connect(&folder.feed_socket()).await
    }

    /// Connects to a socket.
    pub async fn connect(path: &Path) -> Result<Self, ClientError> {
        let unreachable = |error| ClientError::Unreachable { path: path.to_owned(), error };
        let stream = UnixStream::connect(path).await.map_err(unreachable)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // Ends with the connection; what goes wrong on it is seen by whoever waits for an answer.
        tokio::spawn(connection);
        Ok(Self { sender })
    }

    /// Asks for something.
    pub async fn get<A: DeserializeOwned>(&mut self, path: &str) -> Result<A, ClientError> {
        self.send(Method::GET, path, Bytes::new()).await
    }

    /// Sends something.
    pub async fn post<Q: Serialize, A: DeserializeOwned>(&mut self, path: &str, body: &Q) -> Result<A, ClientError> {
        self.send(Method::POST, path, serde_json::to_vec(body)?.into()).await
    }

    /// Asks for something that is not JSON.
    pub async fn text(&mut self, path: &str) -> Result<String, ClientError> {
        Ok(String::from_utf8_lossy(&self.bytes(path).await?).into_owned())
    }

    /// Asks for bytes.
    pub async fn bytes(&mut self, path: &str) -> Result<Bytes, ClientError> {
        self.exchange(Method::GET, path, "application/json", Bytes::new()).await
    }

    /// Sends CBOR, and gives the CBOR that is answered.
    pub async fn cbor(&mut self, path: &str, body: Vec<u8>) -> Result<Vec<u8>, ClientError> {
        Ok(self.exchange(Method::POST, path, "application/cbor", body.into()).await?.to_vec())
    }

    async fn send<A: DeserializeOwned>(&mut self, method: Method, path: &str, body: Bytes) -> Result<A, ClientError> {
        Ok(serde_json::from_slice(&self.exchange(method, path, "application/json", body).await?)?)
    }

    async fn exchange(
        &mut self,
        method: Method,
        path: &str,
        kind: &'static str,
        body: Bytes,
    ) -> Result<Bytes, ClientError> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().map_err(|_| ClientError::Refused {
            status: StatusCode::BAD_REQUEST.as_u16(),
            message: format!("{path:?} is not a path"),
        })?;
        request.headers_mut().insert(header::HOST, HeaderValue::from_static("localhost"));
        request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        self.sender.ready().await?;
        let response = self.sender.send_request(request).await?;
        let status = response.status();
        let passes = response.headers().contains_key(header::RETRY_AFTER);
        let bytes = response.into_body().collect().await?.to_bytes();
        if status == StatusCode::OK {
            return Ok(bytes);
        }
        let error = serde_json::from_slice::<serde_json::Value>(&bytes).ok();
        let message = error.as_ref().and_then(|error| error["error"].as_str());
        let message = message.map_or_else(|| format!("the node answers {status}"), str::to_owned);
        if status == StatusCode::SERVICE_UNAVAILABLE && passes {
            return Err(ClientError::Later(message));
        }
        Err(ClientError::Refused { status: status.as_u16(), message })
    }
}
