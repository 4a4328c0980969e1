//! States of a node, as the base sees it.
//!
//! ```text
//! Active --Silent--> Suspect --Lost--> Down          Draining: gets no new jobs
//!    ^--------Heard-----'---------------'            Quarantined: is no source
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
    /// An operator: no new jobs.
    Drain,
    /// An operator: a node as any other again.
    Undrain,
    /// An operator: not a node any more.
    Retire,
}

impl NodeInput {
    /// All of them, for tables.
    pub const ALL: [Self; 7] = [
        Self::Heard,
        Self::Silent,
        Self::Lost,
        Self::Poisoned,
        Self::Drain,
        Self::Undrain,
        Self::Retire,
    ];
}

impl NodeState {
    /// All of them, for tables.
    pub const ALL: [Self; 6] =
        [Self::Active, Self::Suspect, Self::Down, Self::Draining, Self::Retired, Self::Quarantined];

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
        }
    }

    /// Whether targets that name no node (all, a selector) include it.
    #[must_use]
    pub fn takes_jobs(self) -> bool {
        match self {
            Self::Active | Self::Suspect | Self::Down | Self::Quarantined => true,
            Self::Draining | Self::Retired => false,
        }
    }

    /// Whether others may fetch from it, when it lives.
    #[must_use]
    pub fn may_serve(self) -> bool {
        match self {
            Self::Active | Self::Draining => true,
            Self::Suspect | Self::Down | Self::Retired | Self::Quarantined => false,
        }
    }

    /// The state after `input`; `None` when it has no effect in this state.
    #[must_use]
    pub fn next(self, input: NodeInput) -> Option<Self> {
        use NodeInput::{Drain, Heard, Lost, Poisoned, Retire, Silent, Undrain};
        match (self, input) {
            (Self::Suspect | Self::Down, Heard) | (Self::Draining | Self::Quarantined, Undrain) => {
                Some(Self::Active)
            }
            (Self::Active, Silent) => Some(Self::Suspect),
            (Self::Active | Self::Suspect, Lost) => Some(Self::Down),
            (Self::Active | Self::Suspect | Self::Down | Self::Draining, Poisoned) => {
                Some(Self::Quarantined)
            }
            (Self::Active | Self::Suspect | Self::Down | Self::Quarantined, Drain) => {
                Some(Self::Draining)
            }
            (
                Self::Active | Self::Suspect | Self::Down | Self::Draining | Self::Quarantined,
                Retire,
            ) => Some(Self::Retired),
            (Self::Active, Heard | Undrain)
            | (Self::Suspect, Silent | Undrain)
            | (Self::Down, Silent | Lost | Undrain)
            | (Self::Draining, Heard | Silent | Lost | Drain)
            | (Self::Quarantined, Heard | Silent | Lost | Poisoned)
            | (Self::Retired, Heard | Silent | Lost | Poisoned | Drain | Undrain | Retire) => None,
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
        Active --Drain--> Draining
        Active --Retire--> Retired
        Suspect --Heard--> Active
        Suspect --Lost--> Down
        Suspect --Poisoned--> Quarantined
        Suspect --Drain--> Draining
        Suspect --Retire--> Retired
        Down --Heard--> Active
        Down --Poisoned--> Quarantined
        Down --Drain--> Draining
        Down --Retire--> Retired
        Draining --Poisoned--> Quarantined
        Draining --Undrain--> Active
        Draining --Retire--> Retired
        Quarantined --Drain--> Draining
        Quarantined --Undrain--> Active
        Quarantined --Retire--> Retired
        ");
    }

    #[test]
    fn names_of_states_are_those_of_json() {
        for state in NodeState::ALL {
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
        }
    }
}
