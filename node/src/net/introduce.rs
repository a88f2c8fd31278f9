//! The introduction: how a member whose node keys are on no card any more hands its new card to the others (SPEC 14.10).
//!
//! Not a stream of the network, but a socket of its own, where the operator wants one: strangers still never reach the multiplexer. A
//! connection carries one card, which proves itself, and gets one line.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hashmesh_protocol::card::{Card, MAX_CARD};
use hashmesh_protocol::digest::NetworkId;
use hashmesh_protocol::engine::Input;
use hashmesh_protocol::governance::{Document, Taken};
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::pace::{Buckets, Pace};
use super::{NetError, Shared, dial};
use crate::driver::Submitters;
use crate::mailbox::Lane;
use crate::sentence::sentence;

/// Connections at a time. Whoever comes when there are so many is turned away.
const AT_ONCE: usize = 4;

/// Cards that are looked at, from everybody together: each costs a few signature checks.
const PACE: Pace = Pace { burst: 10.0, rate: 0.5 };

/// How long a connection may take in all.
const PATIENCE: Duration = Duration::from_secs(10);

/// Longest answer, in bytes.
const MAX_LINE: u64 = 1024;

/// What a connection begins with.
fn greeting(network: &str) -> String {
    format!("hashmesh/{network}/introduce/{}\n", hashmesh_protocol::wire::PROTOCOL)
}

/// Listens for introductions.
pub(super) async fn listen(
    shared: &Arc<Shared>,
    submitters: &Arc<Submitters>,
    addresses: &[String],
) -> Result<(), NetError> {
    let (serving, buckets) = (Arc::new(Semaphore::new(AT_ONCE)), Arc::new(Mutex::new(Buckets::new(PACE))));
    // All strangers share one bucket.
    let strangers = PeerId::random();
    for text in addresses {
        let refused = |error: std::io::Error| NetError::Listen { address: text.clone(), error: Box::new(error) };
        let address = dial::parse_listen(text)?;
        let socket = socket(&address).ok_or_else(|| refused(std::io::ErrorKind::InvalidInput.into()))?;
        let listener = TcpListener::bind(socket).await.map_err(refused)?;
        let (shared, submitters, serving, buckets) =
            (shared.clone(), submitters.clone(), serving.clone(), buckets.clone());
        tokio::spawn(async move {
            loop {
                let Ok((stream, from)) = listener.accept().await else {
                    // Too many files are open: that passes, and must not take a core meanwhile.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                };
                let Ok(permit) = serving.clone().try_acquire_owned() else { continue };
                let (shared, submitters, buckets) = (shared.clone(), submitters.clone(), buckets.clone());
                tokio::spawn(async move {
                    let may = move || buckets.lock().take(strangers, 1.0, Instant::now());
                    if timeout(PATIENCE, serve(&shared, &submitters, stream, may)).await.is_err() {
                        tracing::debug!(%from, "an introduction took too long");
                    }
                    drop(permit);
                });
            }
        });
    }
    Ok(())
}

async fn serve(shared: &Shared, submitters: &Submitters, mut stream: TcpStream, may: impl Fn() -> bool) {
    let line = match take(shared, submitters, &mut stream, may).await {
        Ok(line) => line,
        // Whoever does not speak like this gets no answer.
        Err(_) => return,
    };
    let _gone = stream.write_all(line.as_bytes()).await;
}

/// Reads one card and has the driver take it; the line that is answered.
async fn take(
    shared: &Shared,
    submitters: &Submitters,
    stream: &mut TcpStream,
    may: impl Fn() -> bool,
) -> std::io::Result<String> {
    let expected = greeting(&shared.network);
    let mut greeted = vec![0; expected.len()];
    stream.read_exact(&mut greeted).await?;
    if greeted != expected.as_bytes() {
        return Err(std::io::ErrorKind::InvalidData.into());
    }
    let length = usize::try_from(stream.read_u32().await?).unwrap_or(usize::MAX);
    if length > MAX_CARD {
        return Ok(format!("refused: a card has at most {MAX_CARD} bytes\n"));
    }
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await?;
    if !may() {
        return Ok("busy: try again in a minute\n".to_owned());
    }
    let card = match Card::read(&bytes) {
        Ok(card) => card,
        Err(error) => return Ok(format!("refused: {}\n", sentence(&error))),
    };
    let (ticket, told) = submitters.enter();
    let documents = vec![Document::Card(Box::new(card))];
    let sent = shared.mailbox.send(Lane::Urgent, Input::Submit { ticket, documents, cut: false }).await;
    let outcome = match sent {
        Ok(()) => told.await.ok().and_then(|mut outcomes| outcomes.pop()),
        Err(_) => None,
    };
    Ok(match outcome {
        Some(Ok(Taken::Known)) => "known\n".to_owned(),
        Some(Ok(_)) => "taken\n".to_owned(),
        Some(Err(error)) => format!("refused: {}\n", sentence(&error)),
        None => "busy: the node is ending\n".to_owned(),
    })
}

/// The socket address of a multiaddress with an IP address.
fn socket(address: &Multiaddr) -> Option<SocketAddr> {
    let mut parts = address.iter();
    match (parts.next()?, parts.next()?) {
        (Protocol::Ip4(ip), Protocol::Tcp(port)) => Some(SocketAddr::from((ip, port))),
        (Protocol::Ip6(ip), Protocol::Tcp(port)) => Some(SocketAddr::from((ip, port))),
        _ => None,
    }
}

/// Why an introduction came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum IntroductionError {
    /// The address.
    #[error(transparent)]
    Address(#[from] NetError),
    /// A first card introduces nobody: a charter does.
    #[error("a first card is proposed to the members (hashmesh charter propose --admit), not introduced")]
    FirstCard,
    /// Nobody answers there.
    #[error("{address} does not answer to introductions: {error}")]
    Silent {
        /// Where.
        address: String,
        /// What the system says.
        error: std::io::Error,
    },
    /// The node there does not take it.
    #[error("not taken: {0}")]
    Refused(String),
}

/// Hands a card to a node that listens for introductions; what it answers.
pub async fn introduce(address: &str, card: &Card) -> Result<String, IntroductionError> {
    let network: NetworkId = card.body().network.ok_or(IntroductionError::FirstCard)?;
    let parsed = dial::parse(address)?;
    let silent = |error| IntroductionError::Silent { address: address.to_owned(), error };
    let exchange = async {
        let found = dial::resolve(parsed).await.iter().find_map(socket);
        let mut stream = TcpStream::connect(found.ok_or(std::io::ErrorKind::NotFound)?).await?;
        stream.write_all(greeting(&network.short()).as_bytes()).await?;
        stream.write_u32(u32::try_from(card.bytes().len()).unwrap_or(u32::MAX)).await?;
        stream.write_all(card.bytes()).await?;
        let mut line = String::new();
        stream.take(MAX_LINE).read_to_string(&mut line).await?;
        if line.is_empty() { Err(std::io::ErrorKind::UnexpectedEof.into()) } else { Ok::<_, std::io::Error>(line) }
    };
    let answered = timeout(PATIENCE * 2, exchange).await.map_err(|_| silent(std::io::ErrorKind::TimedOut.into()))?;
    let line = answered.map_err(silent)?.trim_end().to_owned();
    if line == "taken" || line == "known" { Ok(line) } else { Err(IntroductionError::Refused(line)) }
}
