//! How long a caller may take.
//!
//! The HTTP server has one limit for the time until the next head is whole. It cannot tell a caller that asks nothing now
//! from one that began to ask and stopped: the first is welcome for minutes, the second takes a place from others. Here they
//! are told apart, by looking at a connection from both its ends: the bytes that arrive and the questions that come of them.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How long a caller may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// For the head of a question, from its first byte on.
    pub(super) head: Duration,
    /// Between an answer and the next question.
    pub(super) idle: Duration,
}

/// What is to become of a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    GoOn,
    /// It is closed, unless a question arrives in this moment: that is still answered.
    Finish,
    CutOff,
}

/// Nothing is asked.
const IDLE: u64 = 0;
/// Part of a head is here.
const HEAD: u64 = 1;
/// A question is being answered. How long its body may take is the reader's affair.
const BUSY: u64 = 2;
/// In front of the phase: how many questions there have been.
const QUESTION: u64 = 4;

/// Where a connection stands: its phase, and how many questions there have been. Written by the connection for every question,
/// so without a look at the clock; a [`Watch`] has one.
#[derive(Default)]
pub(super) struct Progress(AtomicU64);

impl Progress {
    fn heard(&self) {
        let now = self.0.load(Ordering::Relaxed);
        if now % QUESTION == IDLE {
            self.0.store(now + HEAD, Ordering::Relaxed);
        }
    }

    /// A question has arrived.
    pub(super) fn asked(&self) {
        let now = self.0.load(Ordering::Relaxed);
        self.0.store(now - now % QUESTION + BUSY, Ordering::Relaxed);
    }

    /// Its answer is ready.
    pub(super) fn answered(&self) {
        let now = self.0.load(Ordering::Relaxed);
        self.0.store(now - now % QUESTION + QUESTION + IDLE, Ordering::Relaxed);
    }
}

/// Looks at a connection now and then, and at the clock.
pub(super) struct Watch {
    patience: Patience,
    seen: u64,
    since: Instant,
}

impl Watch {
    pub(super) fn new(patience: Patience) -> Self {
        Self { patience, seen: IDLE, since: Instant::now() }
    }

    /// What is to become of the connection; `crowded` if its place is needed.
    pub(super) fn verdict(&mut self, progress: &Progress, crowded: bool) -> Verdict {
        let now = progress.0.load(Ordering::Relaxed);
        if now != self.seen {
            (self.seen, self.since) = (now, Instant::now());
        }
        let Patience { head, idle } = self.patience;
        let past = self.since.elapsed();
        match now % QUESTION {
            HEAD if past > head => Verdict::CutOff,
            // It was told to finish, and does not take its last answer.
            IDLE if past > idle + head => Verdict::CutOff,
            // Who has just come is not sent away.
            IDLE if past > idle || (crowded && past > head) => Verdict::Finish,
            _ => Verdict::GoOn,
        }
    }
}

/// A stream that notes when something arrives.
pub(super) struct Watched<S> {
    pub(super) stream: S,
    pub(super) progress: Arc<Progress>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.progress.heard();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
