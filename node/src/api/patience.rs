//! How long a caller may take.
//!
//! The HTTP server has one limit for the time until the next head is whole. It cannot tell a caller that asks nothing now
//! from one that began to ask and stopped: the first is welcome for minutes, the second takes a place from others. Here they
//! are told apart, by looking at a connection from both its ends: the bytes that arrive and the questions that come of them.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
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

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    /// Nothing is asked.
    Idle,
    /// Part of a head is here.
    Head,
    /// A question is being answered. How long its body may take is the reader's affair.
    Busy,
}

/// Where a connection stands, and since when.
pub(super) struct Progress(Mutex<(Phase, Instant)>);

impl Default for Progress {
    fn default() -> Self {
        Self(Mutex::new((Phase::Idle, Instant::now())))
    }
}

impl Progress {
    fn heard(&self) {
        let mut now = self.0.lock();
        if now.0 == Phase::Idle {
            *now = (Phase::Head, Instant::now());
        }
    }

    /// A question has arrived.
    pub(super) fn asked(&self) {
        *self.0.lock() = (Phase::Busy, Instant::now());
    }

    /// Its answer is ready.
    pub(super) fn answered(&self) {
        *self.0.lock() = (Phase::Idle, Instant::now());
    }

    /// What is to become of the connection; `crowded` if its place is needed.
    pub(super) fn verdict(&self, patience: Patience, crowded: bool) -> Verdict {
        let (phase, since) = *self.0.lock();
        let Patience { head, idle } = patience;
        let past = since.elapsed();
        match phase {
            Phase::Busy => Verdict::GoOn,
            Phase::Head if past > head => Verdict::CutOff,
            // It was told to finish, and does not take its last answer.
            Phase::Idle if past > idle + head => Verdict::CutOff,
            // Who has just come is not sent away.
            Phase::Idle if past > idle || (crowded && past > head) => Verdict::Finish,
            Phase::Head | Phase::Idle => Verdict::GoOn,
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
