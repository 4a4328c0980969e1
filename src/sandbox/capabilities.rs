//! Capabilities: none is kept by who is not root.
//!
//! ```text
//! root --leave_bounding_set--> another user --drop_all--> permitted, effective, inheritable: none
//! ```
//! The exception: CAP_SYS_NICE, for shards with a real-time priority that no limit (RLIMIT_RTPRIO)
//! allows.

use rustix::process::{Resource, getrlimit};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set,
    clear_ambient_capability_set, remove_capability_from_bounding_set, set_capabilities,
};

use super::{SandboxError, system};

/// No program that this process could run gets a capability either. Asked for as root.
pub(super) fn leave_bounding_set() {
    // As far as the kernel has them: it refuses to say anything of others.
    for number in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        if capability_is_in_bounding_set(capability).is_err() {
            break;
        }
        // A container may have taken the capability for that; NoNewPrivs holds all the same.
        let _stays = remove_capability_from_bounding_set(capability);
    }
}

/// Drops all, but for CAP_SYS_NICE where `needs_priority` and no limit allows a priority.
pub(super) fn drop_all(needs_priority: bool) -> Result<(), SandboxError> {
    let failed = |error| system("capabilities cannot be dropped", error);
    let now = capabilities(None).map_err(failed)?;
    let has_limit = getrlimit(Resource::Rtprio).maximum.is_none_or(|limit| limit > 0);
    let kept = if needs_priority && !has_limit {
        now.permitted.intersection(CapabilitySet::SYS_NICE)
    } else {
        CapabilitySet::empty()
    };
    // A kernel without ambient capabilities has none to clear.
    let _none = clear_ambient_capability_set();
    let inheritable = CapabilitySet::empty();
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable };
    set_capabilities(None, sets).map_err(failed)
}
