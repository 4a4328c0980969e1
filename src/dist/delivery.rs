//! States of a delivery: a command at a node.
//!
//! ```text
//! Pending --Journaled--> Received --Bytes--> Fetching --Whole--> Applying --Receipt--> Completed
//!    ^                       |                  |  ^                |
//!    |                       `-------Error------+--+---------------'
//!    | Again                                    v  | Bytes
//!  Failed <--Fatal-- any open state          RetryWait        Cancelled <--Cancel-- any open state
//! ```
//! A report may be one of several that the base missed, so every open state takes every later one.
//! Invariant: no way leads out of `Completed` and `Cancelled`; only a retry leads out of `Failed`.
//! What a node says of a delivery that has ended has no effect.

use crate::dist::wire::job::{CommandState, DeliveryState, Totals};

/// What happens to a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeliveryInput {
    /// The node has the command in its journal.
    Journaled,
    /// Bytes come.
    Bytes,
    /// All bytes are there and verified.
    Whole,
    /// The node's receipt is verified.
    Receipt,
    /// An attempt failed, another follows.
    Error,
    /// It failed for good.
    Fatal,
    /// It is withdrawn.
    Cancel,
    /// The client wants it tried again.
    Again,
}

impl DeliveryInput {
    /// All of them, for tables.
    pub const ALL: [Self; 8] = [
        Self::Journaled,
        Self::Bytes,
        Self::Whole,
        Self::Receipt,
        Self::Error,
        Self::Fatal,
        Self::Cancel,
        Self::Again,
    ];
}

impl DeliveryState {
    /// All of them, for tables.
    pub const ALL: [Self; 8] = [
        Self::Pending,
        Self::Received,
        Self::Fetching,
        Self::Applying,
        Self::RetryWait,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
    ];

    /// It has not ended.
    #[must_use]
    pub fn is_open(self) -> bool {
        match self {
            Self::Pending | Self::Received | Self::Fetching | Self::Applying | Self::RetryWait => {
                true
            }
            Self::Completed | Self::Failed | Self::Cancelled => false,
        }
    }

    /// In the words of reference 002.
    #[must_use]
    pub fn shown(self) -> CommandState {
        match self {
            Self::Pending | Self::Received => CommandState::New,
            Self::Fetching | Self::Applying | Self::RetryWait => CommandState::InProgress,
            Self::Completed => CommandState::Completed,
            Self::Failed => CommandState::Failed,
            Self::Cancelled => CommandState::Cancelled,
        }
    }

    /// As in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Received => "received",
            Self::Fetching => "fetching",
            Self::Applying => "applying",
            Self::RetryWait => "retry_wait",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// The state after `input`; `None` when it has no effect in this state.
    #[must_use]
    pub fn next(self, input: DeliveryInput) -> Option<Self> {
        use DeliveryInput::{Again, Bytes, Cancel, Error, Fatal, Journaled, Receipt, Whole};
        match (self, input) {
            (Self::Pending, Journaled) => Some(Self::Received),
            // An agent that was killed while it applied may have to fetch again.
            (Self::Pending | Self::Received | Self::Applying | Self::RetryWait, Bytes) => {
                Some(Self::Fetching)
            }
            (Self::Pending | Self::Received | Self::Fetching | Self::RetryWait, Whole) => {
                Some(Self::Applying)
            }
            (
                Self::Pending | Self::Received | Self::Fetching | Self::Applying | Self::RetryWait,
                Receipt,
            ) => Some(Self::Completed),
            // Each attempt that fails counts, also behind another one.
            (
                Self::Pending | Self::Received | Self::Fetching | Self::Applying | Self::RetryWait,
                Error,
            ) => Some(Self::RetryWait),
            (
                Self::Pending | Self::Received | Self::Fetching | Self::Applying | Self::RetryWait,
                Fatal,
            ) => Some(Self::Failed),
            (
                Self::Pending | Self::Received | Self::Fetching | Self::Applying | Self::RetryWait,
                Cancel,
            ) => Some(Self::Cancelled),
            (Self::Failed, Again) => Some(Self::Pending),
            (Self::Pending, Again)
            | (Self::Received | Self::RetryWait, Journaled | Again)
            | (Self::Fetching, Journaled | Bytes | Again)
            | (Self::Applying, Journaled | Whole | Again)
            | (Self::Failed, Journaled | Bytes | Whole | Receipt | Error | Fatal | Cancel)
            | (
                Self::Completed | Self::Cancelled,
                Journaled | Bytes | Whole | Receipt | Error | Fatal | Cancel | Again,
            ) => None,
        }
    }
}

impl Totals {
    /// One more delivery in this state.
    pub fn add(&mut self, state: DeliveryState) {
        *self.place(state) += 1;
    }

    /// One delivery went from one state to another.
    pub fn shift(&mut self, from: DeliveryState, to: DeliveryState) {
        let place = self.place(from);
        debug_assert!(*place > 0, "a delivery in {from:?} was not counted");
        *place = place.saturating_sub(1);
        self.add(to);
    }

    fn place(&mut self, state: DeliveryState) -> &mut u64 {
        match state.shown() {
            CommandState::New => &mut self.new,
            CommandState::InProgress => &mut self.in_progress,
            CommandState::Completed => &mut self.completed,
            CommandState::Failed => &mut self.failed,
            CommandState::Cancelled => &mut self.cancelled,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn table_of_states_is_closed_and_this() {
        let mut table = String::new();
        for state in DeliveryState::ALL {
            for input in DeliveryInput::ALL {
                if let Some(next) = state.next(input) {
                    table.push_str(&format!("{state:?} --{input:?}--> {next:?}\n"));
                }
            }
        }
        insta::assert_snapshot!(table, @r"
        Pending --Journaled--> Received
        Pending --Bytes--> Fetching
        Pending --Whole--> Applying
        Pending --Receipt--> Completed
        Pending --Error--> RetryWait
        Pending --Fatal--> Failed
        Pending --Cancel--> Cancelled
        Received --Bytes--> Fetching
        Received --Whole--> Applying
        Received --Receipt--> Completed
        Received --Error--> RetryWait
        Received --Fatal--> Failed
        Received --Cancel--> Cancelled
        Fetching --Whole--> Applying
        Fetching --Receipt--> Completed
        Fetching --Error--> RetryWait
        Fetching --Fatal--> Failed
        Fetching --Cancel--> Cancelled
        Applying --Bytes--> Fetching
        Applying --Receipt--> Completed
        Applying --Error--> RetryWait
        Applying --Fatal--> Failed
        Applying --Cancel--> Cancelled
        RetryWait --Bytes--> Fetching
        RetryWait --Whole--> Applying
        RetryWait --Receipt--> Completed
        RetryWait --Error--> RetryWait
        RetryWait --Fatal--> Failed
        RetryWait --Cancel--> Cancelled
        Failed --Again--> Pending
        ");
    }

    #[test]
    fn names_of_states_are_those_of_json() {
        for state in DeliveryState::ALL {
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
        }
    }

    proptest! {
        #[test]
        fn only_a_retry_leads_out_of_an_end(
            inputs in prop::collection::vec(prop::sample::select(&DeliveryInput::ALL[..]), 0..40),
        ) {
            let (mut state, mut totals) = (DeliveryState::Pending, Totals::default());
            totals.add(state);
            for input in inputs {
                let next = state.next(input);
                if let Some(next) = next {
                    let is_retry = (state, input) == (DeliveryState::Failed, DeliveryInput::Again);
                    prop_assert!(state.is_open() || is_retry);
                    totals.shift(state, next);
                    state = next;
                }
                prop_assert_eq!(totals.all(), 1);
                prop_assert_eq!(totals.open() == 1, state.is_open());
            }
        }
    }
}
