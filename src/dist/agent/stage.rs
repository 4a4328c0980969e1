//! Stages of a command at its node, as a closed table.
//!
//! ```text
//! waiting -> reserving -> fetching -> verified -> applying -> completed     a put
//! waiting ------------------------------------> applying -> completed      all others
//! fetching -> waiting     its job is paused, or its window has closed
//! any of them -> retry_wait -> waiting;  -> failed;  -> cancelled, but not while applying
//! ```
//! Invariant: completed is left by nothing, failed and cancelled only by an order that is given
//! again.

/// Where a command is at its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Known; nothing was begun.
    Waiting,
    /// Space for the content is asked for.
    Reserving,
    /// Bytes come, or a source is looked for.
    Fetching,
    /// All bytes are there; earlier commands are waited for.
    Verified,
    /// The media folder is being changed.
    Applying,
    /// Another attempt follows.
    RetryWait,
    /// Done.
    Completed,
    /// Given up.
    Failed,
    /// Withdrawn.
    Cancelled,
}

/// What moves a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Input {
    /// There is room to fetch.
    Begin,
    /// The job may fetch nothing for now.
    Hold,
    /// Space is there.
    Reserved,
    /// All bytes are there and verified.
    Whole,
    /// No earlier command is in the way.
    Turn,
    /// The media folder is changed.
    Applied,
    /// It did not work; another attempt follows.
    Retry,
    /// It did not work and will not.
    GiveUp,
    /// The pause is over.
    Due,
    /// Withdrawn.
    Cancel,
    /// Ordered once more after it was given up or withdrawn.
    Again,
}

impl Stage {
    /// Nothing follows by itself.
    #[must_use]
    pub fn is_ended(self) -> bool {
        match self {
            Self::Completed | Self::Failed | Self::Cancelled => true,
            Self::Waiting
            | Self::Reserving
            | Self::Fetching
            | Self::Verified
            | Self::Applying
            | Self::RetryWait => false,
        }
    }

    /// The stage behind `input`; `None` when it has no effect here.
    #[must_use]
    pub fn next(self, input: Input) -> Option<Self> {
        use Input::{
            Again, Applied, Begin, Cancel, Due, GiveUp, Hold, Reserved, Retry, Turn, Whole,
        };
        match (self, input) {
            (Self::Waiting, Begin) => Some(Self::Reserving),
            (Self::Reserving, Reserved) => Some(Self::Fetching),
            (Self::Reserving | Self::Fetching, Whole) => Some(Self::Verified),
            (Self::Waiting | Self::Verified, Turn) => Some(Self::Applying),
            (Self::Applying, Applied) => Some(Self::Completed),
            (Self::Reserving | Self::Fetching | Self::Applying, Retry) => Some(Self::RetryWait),
            (
                Self::Waiting | Self::Reserving | Self::Fetching | Self::Applying | Self::RetryWait,
                GiveUp,
            ) => Some(Self::Failed),
            (Self::RetryWait, Due) | (Self::Fetching, Hold) => Some(Self::Waiting),
            (
                Self::Waiting | Self::Reserving | Self::Fetching | Self::Verified | Self::RetryWait,
                Cancel,
            ) => Some(Self::Cancelled),
            (Self::Failed | Self::Cancelled, Again) => Some(Self::Waiting),
            (Self::Waiting, Hold | Reserved | Whole | Applied | Retry | Due | Again)
            | (Self::Reserving, Begin | Hold | Turn | Applied | Due | Again)
            | (Self::Fetching, Begin | Reserved | Turn | Applied | Due | Again)
            | (
                Self::Verified,
                Begin | Hold | Reserved | Whole | Applied | Retry | GiveUp | Due | Again,
            )
            | (Self::Applying, Begin | Hold | Reserved | Whole | Turn | Due | Cancel | Again)
            | (Self::RetryWait, Begin | Hold | Reserved | Whole | Turn | Applied | Retry | Again)
            | (
                Self::Failed | Self::Cancelled,
                Begin | Hold | Reserved | Whole | Turn | Applied | Retry | GiveUp | Due | Cancel,
            )
            | (
                Self::Completed,
                Begin | Hold | Reserved | Whole | Turn | Applied | Retry | GiveUp | Due | Cancel
                | Again,
            ) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAGES: [Stage; 9] = [
        Stage::Waiting,
        Stage::Reserving,
        Stage::Fetching,
        Stage::Verified,
        Stage::Applying,
        Stage::RetryWait,
        Stage::Completed,
        Stage::Failed,
        Stage::Cancelled,
    ];
    const INPUTS: [Input; 11] = [
        Input::Begin,
        Input::Hold,
        Input::Reserved,
        Input::Whole,
        Input::Turn,
        Input::Applied,
        Input::Retry,
        Input::GiveUp,
        Input::Due,
        Input::Cancel,
        Input::Again,
    ];

    #[test]
    fn table_of_stages_is_what_it_was() {
        let rows = STAGES.iter().flat_map(|stage| {
            INPUTS.iter().filter_map(move |input| {
                stage.next(*input).map(|next| format!("{stage:?} + {input:?} -> {next:?}"))
            })
        });
        insta::assert_snapshot!(rows.collect::<Vec<_>>().join("\n"), @r"
        Waiting + Begin -> Reserving
        Waiting + Turn -> Applying
        Waiting + GiveUp -> Failed
        Waiting + Cancel -> Cancelled
        Reserving + Reserved -> Fetching
        Reserving + Whole -> Verified
        Reserving + Retry -> RetryWait
        Reserving + GiveUp -> Failed
        Reserving + Cancel -> Cancelled
        Fetching + Hold -> Waiting
        Fetching + Whole -> Verified
        Fetching + Retry -> RetryWait
        Fetching + GiveUp -> Failed
        Fetching + Cancel -> Cancelled
        Verified + Turn -> Applying
        Verified + Cancel -> Cancelled
        Applying + Applied -> Completed
        Applying + Retry -> RetryWait
        Applying + GiveUp -> Failed
        RetryWait + GiveUp -> Failed
        RetryWait + Due -> Waiting
        RetryWait + Cancel -> Cancelled
        Failed + Again -> Waiting
        Cancelled + Again -> Waiting
        ");
    }

    #[test]
    fn ended_stages_are_left_by_an_order_that_is_given_again_only() {
        for stage in STAGES.into_iter().filter(|stage| stage.is_ended()) {
            for input in INPUTS {
                let next = stage.next(input);
                let may_be = stage != Stage::Completed && input == Input::Again;
                assert_eq!(next.is_some(), may_be, "{stage:?} + {input:?}");
            }
        }
    }
}
