//! The proof that a statement was not live any more (SPEC 19.10): its neighbours in the tree of what was.

use serde_tuple::{Deserialize_tuple, Serialize_tuple};

use crate::statement::{Position, State};
use crate::survey::{Neighbour, live_hash};
use crate::tree::proof::{ProofError, verify_inclusion};

/// The live statements on both sides of a position at which none is live.
#[derive(Clone, Debug, Deserialize_tuple, Eq, PartialEq, Serialize_tuple)]
pub struct NotLive {
    /// The position.
    pub position: Position,
    /// The last live statement before it.
    pub before: Option<Neighbour>,
    /// The first one after it.
    pub after: Option<Neighbour>,
}

/// Why it does not prove that.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NotLiveFault {
    /// The statement that is proven is no `state`.
    #[error("only the author's statement of what is live can prove that something is not")]
    NoState,
    /// The statement was made before.
    #[error("what was live before {0} says nothing about what stands there or later")]
    Later(Position),
    /// There may be live statements between the neighbours.
    #[error("the statements in it are not next to each other, or not on both sides of {0}")]
    Apart(Position),
    /// A neighbour is not in the tree.
    #[error("a statement in it is not in the tree of what is live")]
    NotIncluded(#[from] ProofError),
}

impl NotLive {
    /// Checks that by this `state` nothing was live at the position.
    pub(super) fn check(&self, state: &State) -> Result<(), NotLiveFault> {
        if self.position >= state.before {
            return Err(NotLiveFault::Later(state.before));
        }
        let (first, last) = match (&self.before, &self.after) {
            (Some(before), Some(after)) => (before.number.checked_add(1) == Some(after.number), true),
            (Some(before), None) => (true, before.number.checked_add(1) == Some(state.count)),
            (None, Some(after)) => (after.number == 0, true),
            (None, None) => (true, state.count == 0),
        };
        let around = self.before.as_ref().is_none_or(|before| before.position < self.position)
            && self.after.as_ref().is_none_or(|after| after.position > self.position);
        if !(first && last && around) {
            return Err(NotLiveFault::Apart(self.position));
        }
        for neighbour in [&self.before, &self.after].into_iter().flatten() {
            let leaf = live_hash(neighbour.position, neighbour.hash);
            verify_inclusion(leaf, neighbour.number, state.count, state.root, &neighbour.path)?;
        }
        // An empty tree has one root (RFC 6962, section 2.1), and it is the state's own word that it is empty.
        let empty = state.count > 0 || state.root == crate::tree::empty_root();
        if empty { Ok(()) } else { Err(NotLiveFault::Apart(self.position)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::tree::leaf_hash;
    use crate::tree::prover::tests::Naive;
    use crate::tree::prover::{inclusion, root};

    /// What is live: the even places of ten.
    fn live() -> Vec<(Position, Digest)> {
        (0..5u64).map(|n| (Position { epoch: 0, index: 2 * n }, leaf_hash(&n.to_be_bytes()))).collect()
    }

    fn tree() -> Naive {
        Naive(live().iter().map(|(position, hash)| live_hash(*position, *hash)).collect())
    }

    fn state() -> State {
        State { before: Position { epoch: 0, index: 10 }, root: root(&tree(), 5).unwrap(), count: 5 }
    }

    fn neighbour(number: u64) -> Neighbour {
        let (position, hash) = live()[usize::try_from(number).unwrap()];
        Neighbour { number, position, hash, path: inclusion(&tree(), number, 5).unwrap() }
    }

    fn proof(index: u64, before: Option<u64>, after: Option<u64>) -> NotLive {
        let position = Position { epoch: 0, index };
        NotLive { position, before: before.map(neighbour), after: after.map(neighbour) }
    }

    #[test]
    fn what_is_not_live_has_two_neighbours_that_are() {
        for index in [1, 3, 5, 7] {
            assert_eq!(proof(index, Some(index / 2), Some(index / 2 + 1)).check(&state()), Ok(()));
        }
        assert_eq!(proof(9, Some(4), None).check(&state()), Ok(()));
        let none = State { count: 0, root: crate::tree::empty_root(), ..state() };
        assert_eq!(proof(3, None, None).check(&none), Ok(()));
    }

    #[test]
    fn nothing_else_proves_it() {
        let apart = |proof: NotLive| assert!(matches!(proof.check(&state()), Err(NotLiveFault::Apart(_))));
        apart(proof(3, Some(0), Some(2)));
        apart(proof(3, Some(2), Some(3)));
        apart(proof(3, None, Some(2)));
        apart(proof(3, Some(1), None));
        apart(proof(3, None, None));
        apart(proof(2, Some(1), Some(2)));
        assert!(matches!(proof(10, Some(4), None).check(&state()), Err(NotLiveFault::Later(_))));
        let mut other = proof(3, Some(1), Some(2));
        other.after.as_mut().unwrap().hash.0[0] ^= 1;
        assert!(matches!(other.check(&state()), Err(NotLiveFault::NotIncluded(_))));
        let lied = State { count: 0, ..state() };
        assert!(proof(3, None, None).check(&lied).is_err());
    }
}
