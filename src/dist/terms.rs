//! Terms of a job: what its policy lets nodes and the base spend on it, and when.
//!
//! ```text
//! policy --base--> Terms --order--> nodes: journal, then both ends of a transfer keep to them
//!                              source: Share of the uplink      receiver: per_node_rate, hours
//! ```
//! Invariant: whether a job is open follows from its terms and the time of the base alone, so that
//! a node knows it when the base is away.

use serde::{Deserialize, Serialize};

use crate::dist::uplink::{Share, weight_of};
use crate::dist::window::Hours;
use crate::dist::wire::job::Policy;

/// What a job may take.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// 0 to 9.
    pub priority: u8,
    /// Bytes per second that each source may spend on the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_rate: Option<u64>,
    /// Bytes per second that each receiver may take of the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_node_rate: Option<u64>,
    /// Transfers wait for a word of the client.
    #[serde(default)]
    pub is_paused: bool,
    /// When transfers may go on; `None`: at any time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hours: Option<Hours>,
}

impl Terms {
    /// What a policy says from `utc_ns` on.
    #[must_use]
    pub fn of(policy: &Policy, utc_ns: i64) -> Self {
        let Policy { priority, max_rate, per_node_rate, window, paused, .. } = policy;
        Self {
            priority: *priority,
            max_rate: *max_rate,
            per_node_rate: *per_node_rate,
            is_paused: *paused,
            hours: window.as_ref().map(|window| window.hours(utc_ns)),
        }
    }

    /// Whether transfers may go on at a time of the base.
    #[must_use]
    pub fn is_open_at(&self, utc_ns: i64) -> bool {
        !self.is_paused && self.hours.as_ref().is_none_or(|hours| hours.is_open_at(utc_ns))
    }

    /// The job's part of an uplink while it is open.
    #[must_use]
    pub fn share(&self) -> Share {
        Share { weight: weight_of(self.priority), max_rate: self.max_rate, is_open: true }
    }

    /// The job's part of an uplink at a time of the base.
    #[must_use]
    pub fn share_at(&self, utc_ns: i64) -> Share {
        Share { is_open: self.is_open_at(utc_ns), ..self.share() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn job_is_open_within_its_hours_unless_it_is_paused() {
        let mut policy = Policy { priority: 9, max_rate: Some(7), ..Policy::default() };
        let at = |hour: i64| (1_767_225_600 + hour * 3_600) * 1_000_000_000;
        assert_eq!(Terms::of(&Policy::default(), 0), Terms::default());
        assert!(Terms::of(&policy, at(0)).is_open_at(at(0)));
        policy.window = Some("22:00-06:00".parse().unwrap());
        let terms = Terms::of(&policy, at(12));
        let open = [12, 21, 22, 29, 30].map(|hour| terms.is_open_at(at(hour)));
        assert_eq!(open, [false, false, true, true, false]);
        let share = Share { weight: 10, max_rate: Some(7), is_open: true };
        assert_eq!(terms.share_at(at(23)), share);
        policy.paused = true;
        assert!(!Terms::of(&policy, at(12)).is_open_at(at(23)));
    }
}
