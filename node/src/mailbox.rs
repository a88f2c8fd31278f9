//! The way into the driver: two bounded lanes, one consumer.
//!
//! What is small and urgent (revocations, gossip) goes before what is large (imports, ranges). A full lane makes its
//! senders wait, which is how a slow disk slows down an import, and in the end the peer that sends.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use hashmesh_protocol::key::PublicKey;
use parking_lot::{Condvar, Mutex};
use tokio::sync::Semaphore;

/// Messages that wait in a lane.
const URGENT: usize = 1024;
/// Large ones take a few megabytes each.
const BULK: usize = 12;

/// Large messages handed to the driver together; one commit each would double the syncs, more would take memory.
const BULK_AT_ONCE: usize = 4;

/// Which lane a message takes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Lane {
    /// Small, and soon.
    Urgent,
    /// Large, and in its turn.
    Bulk,
}

/// The driver is gone.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the node is shutting down")]
pub struct Closed;

/// Two bounded lanes of messages, and one place for each key (that of a peer).
pub struct Mailbox<T, K = PublicKey> {
    lanes: Mutex<Lanes<T, K>>,
    arrived: Condvar,
    urgent: Arc<Semaphore>,
    bulk: Arc<Semaphore>,
}

struct Lanes<T, K> {
    posted: VecDeque<T>,
    newest: BTreeMap<K, T>,
    urgent: VecDeque<T>,
    bulk: VecDeque<T>,
    closed: bool,
}

impl<T, K> Default for Mailbox<T, K> {
    fn default() -> Self {
        Self {
            lanes: Mutex::new(Lanes {
                posted: VecDeque::new(),
                newest: BTreeMap::new(),
                urgent: VecDeque::new(),
                bulk: VecDeque::new(),
                closed: false,
            }),
            arrived: Condvar::new(),
            urgent: Arc::new(Semaphore::new(URGENT)),
            bulk: Arc::new(Semaphore::new(BULK)),
        }
    }
}

impl<T, K: Ord> Mailbox<T, K> {
    /// Waits for room and sends.
    pub async fn send(&self, lane: Lane, message: T) -> Result<(), Closed> {
        self.room(lane).acquire().await.map_err(|_| Closed)?.forget();
        self.push(lane, message)
    }

    /// Sends if there is room; gives the message back if not.
    pub fn try_send(&self, lane: Lane, message: T) -> Result<(), T> {
        match self.room(lane).try_acquire() {
            Ok(permit) => permit.forget(),
            Err(_) => return Err(message),
        }
        let mut lanes = self.lanes.lock();
        if lanes.closed {
            return Err(message);
        }
        lanes.lane(lane).push_back(message);
        self.arrived.notify_one();
        Ok(())
    }

    /// Sends in place of what was sent under the same key and has not been received yet: for what only the newest counts of,
    /// as a peer's heads. So a sender has one place, however much it sends.
    pub fn replace(&self, key: K, message: T) -> Result<(), Closed> {
        let mut lanes = self.lanes.lock();
        if lanes.closed {
            return Err(Closed);
        }
        lanes.newest.insert(key, message);
        self.arrived.notify_one();
        Ok(())
    }

    /// Sends whether or not there is room: for what is rare by nature and must not be lost, as that a peer is gone.
    pub fn post(&self, message: T) {
        let mut lanes = self.lanes.lock();
        if !lanes.closed {
            lanes.posted.push_back(message);
            self.arrived.notify_one();
        }
    }

    /// Waits until something arrives or the time is up; everything urgent, and some of the rest. `None` once the mailbox is
    /// closed and empty.
    pub fn receive(&self, patience: Duration) -> Option<Vec<T>> {
        let mut lanes = self.lanes.lock();
        if lanes.is_empty() && !lanes.closed {
            self.arrived.wait_for(&mut lanes, patience);
        }
        if lanes.is_empty() && lanes.closed {
            return None;
        }
        let mut messages: Vec<T> = lanes.posted.drain(..).collect();
        messages.extend(std::mem::take(&mut lanes.newest).into_values());
        self.urgent.add_permits(lanes.urgent.len());
        messages.extend(lanes.urgent.drain(..));
        let large = lanes.bulk.len().min(BULK_AT_ONCE);
        messages.extend(lanes.bulk.drain(..large));
        self.bulk.add_permits(large);
        Some(messages)
    }

    /// Takes no more messages; those that are here are still received.
    pub fn close(&self) {
        self.lanes.lock().closed = true;
        self.urgent.close();
        self.bulk.close();
        self.arrived.notify_all();
    }

    fn room(&self, lane: Lane) -> &Semaphore {
        match lane {
            Lane::Urgent => &self.urgent,
            Lane::Bulk => &self.bulk,
        }
    }

    fn push(&self, lane: Lane, message: T) -> Result<(), Closed> {
        let mut lanes = self.lanes.lock();
        if lanes.closed {
            return Err(Closed);
        }
        lanes.lane(lane).push_back(message);
        self.arrived.notify_one();
        Ok(())
    }
}

impl<T, K> Lanes<T, K> {
    fn lane(&mut self, lane: Lane) -> &mut VecDeque<T> {
        match lane {
            Lane::Urgent => &mut self.urgent,
            Lane::Bulk => &mut self.bulk,
        }
    }

    fn is_empty(&self) -> bool {
        self.posted.is_empty() && self.newest.is_empty() && self.urgent.is_empty() && self.bulk.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::ZERO;

    #[test]
    fn urgent_messages_overtake_large_ones() {
        let mailbox = Mailbox::<_, u8>::default();
        for (lane, message) in [(Lane::Bulk, 1), (Lane::Urgent, 2), (Lane::Bulk, 3), (Lane::Urgent, 4)] {
            mailbox.try_send(lane, message).unwrap();
        }
        assert_eq!(mailbox.receive(NOW), Some(vec![2, 4, 1, 3]));
        assert_eq!(mailbox.receive(NOW), Some(vec![]));
    }

    #[test]
    fn a_full_lane_does_not_block_the_other() {
        let mailbox = Mailbox::<_, u8>::default();
        (0..BULK).for_each(|number| mailbox.try_send(Lane::Bulk, number).unwrap());
        assert_eq!(mailbox.try_send(Lane::Bulk, 99), Err(99));
        assert_eq!(mailbox.try_send(Lane::Urgent, 99), Ok(()));
        assert_eq!(mailbox.receive(NOW).unwrap().len(), 1 + BULK_AT_ONCE);
        assert_eq!(mailbox.try_send(Lane::Bulk, 99), Ok(()));
    }

    #[test]
    fn of_what_is_replaced_only_the_newest_is_received() {
        let mailbox = Mailbox::default();
        (0..10_000).for_each(|number| mailbox.replace(number % 2, number).unwrap());
        mailbox.try_send(Lane::Urgent, 7).unwrap();
        assert_eq!(mailbox.receive(NOW), Some(vec![9998, 9999, 7]));
        assert_eq!(mailbox.receive(NOW), Some(vec![]));
        mailbox.close();
        assert_eq!(mailbox.replace(0, 0), Err(Closed));
    }

    #[test]
    fn what_was_sent_before_closing_is_still_received() {
        let mailbox = Mailbox::<_, u8>::default();
        mailbox.try_send(Lane::Urgent, 1).unwrap();
        mailbox.close();
        assert_eq!(mailbox.try_send(Lane::Urgent, 2), Err(2));
        assert_eq!(mailbox.receive(NOW), Some(vec![1]));
        assert_eq!(mailbox.receive(NOW), None);
    }
}
