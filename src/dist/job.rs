//! States of a job (reference 002: job session).
//!
//! ```text
//! Requested --Accept--> Open --End--> Closing --AllCompleted--> Completed
//!     | Deny              |             |  `--SomeFailed--> CompletedWithFailures
//!     v                   `---Cancel----+                        | Retry
//!   Denied                     v                                 v
//!                          Cancelled                          Closing
//! ```
//! Invariant: no way leads out of `Denied`, `Completed` and `Cancelled`; only a retry leads out of
//! `CompletedWithFailures`.

use crate::dist::wire::job::{JobState, Totals};

/// What happens to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JobInput {
    /// The base takes it.
    Accept,
    /// The base refuses it.
    Deny,
    /// The client adds no more commands.
    End,
    /// The client withdraws it.
    Cancel,
    /// Every delivery has ended, none failed.
    AllCompleted,
    /// Every delivery has ended, one at least failed.
    SomeFailed,
    /// Failed deliveries begin again.
    Retry,
}

impl JobInput {
    /// All of them, for tables.
    pub const ALL: [Self; 7] = [
        Self::Accept,
        Self::Deny,
        Self::End,
        Self::Cancel,
        Self::AllCompleted,
        Self::SomeFailed,
        Self::Retry,
    ];
}

impl JobState {
    /// All of them, for tables.
    pub const ALL: [Self; 7] = [
        Self::Requested,
        Self::Denied,
        Self::Open,
        Self::Closing,
        Self::Completed,
        Self::CompletedWithFailures,
        Self::Cancelled,
    ];

    /// Deliveries of the job may be open.
    #[must_use]
    pub fn is_live(self) -> bool {
        match self {
            Self::Requested | Self::Open | Self::Closing => true,
            Self::Denied | Self::Completed | Self::CompletedWithFailures | Self::Cancelled => false,
        }
    }

    /// As in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Denied => "denied",
            Self::Open => "open",
            Self::Closing => "closing",
            Self::Completed => "completed",
            Self::CompletedWithFailures => "completed_with_failures",
            Self::Cancelled => "cancelled",
        }
    }

    /// The state after `input`; `None` when the job in this state does not take it.
    #[must_use]
    pub fn next(self, input: JobInput) -> Option<Self> {
        use JobInput::{Accept, AllCompleted, Cancel, Deny, End, Retry, SomeFailed};
        match (self, input) {
            (Self::Requested, Accept) => Some(Self::Open),
            (Self::Requested, Deny) => Some(Self::Denied),
            (Self::Requested | Self::Open | Self::Closing, Cancel) => Some(Self::Cancelled),
            (Self::Open, Retry) => Some(Self::Open),
            (Self::Open | Self::Closing, End)
            | (Self::Closing | Self::CompletedWithFailures, Retry) => Some(Self::Closing),
            (Self::Closing, AllCompleted) => Some(Self::Completed),
            (Self::Closing, SomeFailed) => Some(Self::CompletedWithFailures),
            // The end of a job may be said twice.
            (Self::Completed | Self::CompletedWithFailures, End) => Some(self),
            (Self::Requested, End | AllCompleted | SomeFailed | Retry)
            | (Self::Open, Accept | Deny | AllCompleted | SomeFailed)
            | (Self::Closing, Accept | Deny)
            | (Self::Completed, Accept | Deny | Cancel | AllCompleted | SomeFailed | Retry)
            | (Self::CompletedWithFailures, Accept | Deny | Cancel | AllCompleted | SomeFailed)
            | (
                Self::Denied | Self::Cancelled,
                Accept | Deny | End | Cancel | AllCompleted | SomeFailed | Retry,
            ) => None,
        }
    }
}

impl Totals {
    /// Deliveries that have not ended.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.new + self.in_progress
    }

    /// All deliveries.
    #[must_use]
    pub fn all(&self) -> u64 {
        self.open() + self.completed + self.failed + self.cancelled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_of_states_is_closed_and_this() {
        let mut table = String::new();
        for state in JobState::ALL {
            for input in JobInput::ALL {
                if let Some(next) = state.next(input) {
                    table.push_str(&format!("{state:?} --{input:?}--> {next:?}\n"));
                }
            }
        }
        insta::assert_snapshot!(table, @r"
        Requested --Accept--> Open
        Requested --Deny--> Denied
        Requested --Cancel--> Cancelled
        Open --End--> Closing
        Open --Cancel--> Cancelled
        Open --Retry--> Open
        Closing --End--> Closing
        Closing --Cancel--> Cancelled
        Closing --AllCompleted--> Completed
        Closing --SomeFailed--> CompletedWithFailures
        Closing --Retry--> Closing
        Completed --End--> Completed
        CompletedWithFailures --End--> CompletedWithFailures
        CompletedWithFailures --Retry--> Closing
        ");
    }

    #[test]
    fn only_a_retry_leads_from_an_ended_job_to_a_live_one() {
        for state in JobState::ALL.into_iter().filter(|state| !state.is_live()) {
            for input in JobInput::ALL {
                let is_retry = state == JobState::CompletedWithFailures && input == JobInput::Retry;
                let revives = state.next(input).is_some_and(JobState::is_live);
                assert_eq!(revives, is_retry, "{state:?} {input:?}");
            }
        }
    }

    #[test]
    fn names_of_states_are_those_of_json() {
        for state in JobState::ALL {
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
        }
    }
}
