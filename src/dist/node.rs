//! States of a node, as the base sees it.
//!
//! ```text
//! Active --Silent--> Suspect --Lost--> Down          Draining: gets no new jobs
//!    ^--------Heard-----'---------------'            Quarantined: is no source
//!
//! any of these three --Repair--> Repairing --Returned--> Activating --Activated--> Active
//!                                  |  ^---------Repair-------'  ^
//!                                  `--GiveUp--> FailedHw --Returned
//! ```
//! Silent is three heartbeats without a sign of life, Lost is 15 s. `Draining` and `Quarantined`
//! are left by an operator only, so that silence does not undo them; whether such a node lives is
//! known by the time of its last sign of life.
//! Invariant: no way leads out of `Retired`.

use crate::dist::wire::job::NodeState;

/// What happens to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NodeInput {
    /// A sign of life.
    Heard,
    /// None for the time after which a node is suspect.
    Silent,
    /// None for the time after which a node is down.
    Lost,
    /// It sent units that fail their hash, twice.
    Poisoned,
    /// It gives no answer, or does not get on.
    Repair,
    /// It is back while it is being mended, or behind that.
    Returned,
    /// It has said what it has.
    Activated,
    /// It cannot be mended.
    GiveUp,
    /// An operator: no new jobs.
    Drain,
    /// An operator: a node as any other again.
    Undrain,
    /// An operator: not a node any more.
    Retire,
}

impl NodeInput {
    /// All of them, for tables.
    pub const ALL: [Self; 11] = [
        Self::Heard,
        Self::Silent,
        Self::Lost,
        Self::Poisoned,
        Self::Repair,
        Self::Returned,
        Self::Activated,
        Self::GiveUp,
        Self::Drain,
        Self::Undrain,
        Self::Retire,
    ];
}

impl NodeState {
    /// All of them, for tables.
    pub const ALL: [Self; 9] = [
        Self::Active,
        Self::Suspect,
        Self::Down,
        Self::Draining,
        Self::Retired,
        Self::Quarantined,
        Self::Repairing,
        Self::Activating,
        Self::FailedHw,
    ];

    /// As in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspect => "suspect",
            Self::Down => "down",
            Self::Draining => "draining",
            Self::Retired => "retired",
            Self::Quarantined => "quarantined",
            Self::Repairing => "repairing",
            Self::Activating => "activating",
            Self::FailedHw => "failed_hw",
        }
    }

    /// Whether targets that name no node (all, a selector) include it.
    #[must_use]
    pub fn takes_jobs(self) -> bool {
        match self {
            Self::Active
            | Self::Suspect
            | Self::Down
            | Self::Quarantined
            | Self::Repairing
            | Self::Activating
            | Self::FailedHw => true,
            Self::Draining | Self::Retired => false,
        }
    }

    /// Whether others may fetch from it, when it lives.
    #[must_use]
    pub fn may_serve(self) -> bool {
        match self {
            Self::Active | Self::Draining => true,
            Self::Suspect
            | Self::Down
            | Self::Retired
            | Self::Quarantined
            | Self::Repairing
            | Self::Activating
            | Self::FailedHw => false,
        }
    }

    /// The state after `input`; `None` when it has no effect in this state.
    #[must_use]
    pub fn next(self, input: NodeInput) -> Option<Self> {
        use NodeInput::{
            Activated, Drain, GiveUp, Heard, Lost, Poisoned, Repair, Retire, Returned, Silent,
            Undrain,
        };
        match (self, input) {
            (Self::Retired, _) => None,
            (_, Retire) => Some(Self::Retired),
            (Self::Draining, Drain) => None,
            (_, Drain) => Some(Self::Draining),
            (Self::Suspect | Self::Down, Heard)
            | (Self::Draining | Self::Quarantined, Undrain)
            | (Self::Activating, Activated) => Some(Self::Active),
            (Self::Active, Silent) => Some(Self::Suspect),
            (Self::Active | Self::Suspect, Lost) => Some(Self::Down),
            (Self::Active | Self::Suspect | Self::Down | Self::Draining, Poisoned) => {
                Some(Self::Quarantined)
            }
            (
                Self::Active | Self::Suspect | Self::Down | Self::Activating | Self::FailedHw,
                Repair,
            ) => Some(Self::Repairing),
            (Self::Repairing | Self::FailedHw, Returned) => Some(Self::Activating),
            (Self::Repairing | Self::Activating, GiveUp) => Some(Self::FailedHw),
            (Self::Active, Heard | Undrain | Returned | Activated | GiveUp)
            | (Self::Suspect | Self::Down, Silent | Undrain | Returned | Activated | GiveUp)
            | (Self::Down, Lost)
            | (Self::Draining, Heard | Silent | Lost | Repair | Returned | Activated | GiveUp)
            | (
                Self::Quarantined,
                Heard | Silent | Lost | Poisoned | Repair | Returned | Activated | GiveUp,
            )
            | (Self::Repairing, Heard | Silent | Lost | Poisoned | Repair | Activated | Undrain)
            | (Self::Activating, Heard | Silent | Lost | Poisoned | Returned | Undrain)
            | (Self::FailedHw, Heard | Silent | Lost | Poisoned | Activated | GiveUp | Undrain) => {
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_of_states_is_closed_and_this() {
        let mut table = String::new();
        for state in NodeState::ALL {
            for input in NodeInput::ALL {
                if let Some(next) = state.next(input) {
                    table.push_str(&format!("{state:?} --{input:?}--> {next:?}\n"));
                }
            }
        }
        insta::assert_snapshot!(table, @r"
        Active --Silent--> Suspect
        Active --Lost--> Down
        Active --Poisoned--> Quarantined
        Active --Repair--> Repairing
        Active --Drain--> Draining
        Active --Retire--> Retired
        Suspect --Heard--> Active
        Suspect --Lost--> Down
        Suspect --Poisoned--> Quarantined
        Suspect --Repair--> Repairing
        Suspect --Drain--> Draining
        Suspect --Retire--> Retired
        Down --Heard--> Active
        Down --Poisoned--> Quarantined
        Down --Repair--> Repairing
        Down --Drain--> Draining
        Down --Retire--> Retired
        Draining --Poisoned--> Quarantined
        Draining --Undrain--> Active
        Draining --Retire--> Retired
        Quarantined --Drain--> Draining
        Quarantined --Undrain--> Active
        Quarantined --Retire--> Retired
        Repairing --Returned--> Activating
        Repairing --GiveUp--> FailedHw
        Repairing --Drain--> Draining
        Repairing --Retire--> Retired
        Activating --Repair--> Repairing
        Activating --Activated--> Active
        Activating --GiveUp--> FailedHw
        Activating --Drain--> Draining
        Activating --Retire--> Retired
        FailedHw --Repair--> Repairing
        FailedHw --Returned--> Activating
        FailedHw --Drain--> Draining
        FailedHw --Retire--> Retired
        ");
    }

    #[test]
    fn names_of_states_are_those_of_json() {
        for state in NodeState::ALL {
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
        }
    }
}
