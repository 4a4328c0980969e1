//! What the ring needs of a kernel, and what it does without.
//!
//! | feature | Linux | without it |
//! |---|---|---|
//! | setup flags: single issuer, deferred task work, submit all | 6.1 | no start |
//! | timed waits (`EXT_ARG`), no dropped completions (`NODROP`) | 5.11 | no start |
//! | operations of [`NEEDED`] | 6.1 | no start |
//! | sends without a copy that report their use | 6.2 | sends are copied |
//! | waits until a time (`ABS_TIMER`) | 6.12 | waits of a length, which end a little late |
//! | waits that do not count as waits for a disk (`NO_IOWAIT`) | 6.15 | `iowait` in `top` |
//!
//! Rings of provided buffers, sparse tables of files, and multishot receives cannot be probed. They
//! are older than deferred task work.

use io_uring::opcode;

use super::config::RingError;

/// What a kernel says of itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Offer {
    pub(super) has_timed_waits: bool,
    pub(super) drops_no_completion: bool,
    pub(super) has_absolute_waits: bool,
    pub(super) has_no_iowait: bool,
}

/// What the ring uses where it is there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Features {
    /// Sends without a copy.
    pub zerocopy: bool,
    /// Waits until a time.
    pub absolute_waits: bool,
    /// A waiting shard counts as idle.
    pub no_iowait: bool,
}

impl Offer {
    /// Decides what the ring uses. `is_supported` says whether the kernel has an operation.
    ///
    /// # Errors
    /// `KernelTooOld`: something is missing that the ring cannot do without.
    pub(super) fn judge(self, is_supported: impl Fn(u8) -> bool) -> Result<Features, RingError> {
        let too_old = |missing, since| Err(RingError::KernelTooOld { missing, since });
        if !self.drops_no_completion {
            return too_old("completions that wait for room", "5.5");
        }
        if !self.has_timed_waits {
            return too_old("timed waits", "5.11");
        }
        if let Some((_, missing, since)) = NEEDED.iter().find(|(code, ..)| !is_supported(*code)) {
            return too_old(missing, since);
        }
        Ok(Features {
            zerocopy: is_supported(opcode::SendMsgZc::CODE),
            absolute_waits: self.has_absolute_waits,
            no_iowait: self.has_no_iowait,
        })
    }
}

impl Features {
    /// What is done instead of what is missing, for the banner.
    pub(super) fn substitutes(self) -> impl Iterator<Item = &'static str> {
        [
            (self.zerocopy, "no sends without a copy (Linux 6.2 has them)"),
            (self.absolute_waits, "waits of a length (Linux 6.12 has waits until a time)"),
            (self.no_iowait, "waits shown as iowait (not from Linux 6.15 on)"),
        ]
        .into_iter()
        .filter(|(has, _)| !has)
        .map(|(_, instead)| instead)
    }
}

/// Operations that the ring cannot do without: code, name, first version.
const NEEDED: [(u8, &str, &str); 7] = [
    (opcode::AcceptMulti::CODE, "accept", "5.5"),
    (opcode::Recv::CODE, "recv", "5.6"),
    (opcode::RecvMsgMulti::CODE, "recvmsg", "5.3"),
    (opcode::SendMsg::CODE, "sendmsg", "5.3"),
    (opcode::Read::CODE, "read", "5.6"),
    (opcode::AsyncCancel2::CODE, "cancel", "5.5"),
    (opcode::Connect::CODE, "connect", "5.5"),
];

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: Offer = Offer {
        has_timed_waits: true,
        drops_no_completion: true,
        has_absolute_waits: true,
        has_no_iowait: true,
    };

    #[test]
    fn kernel_without_what_is_needed_is_refused_with_the_version_that_has_it() {
        for (code, name, since) in NEEDED {
            let text = WHOLE.judge(|asked| asked != code).unwrap_err().to_string();
            let lacks = format!("io_uring lacks {name}, which Linux {since} has");
            assert!(text.contains(&lacks) && text.contains("needs Linux 6.1"), "{text}");
        }
        for offer in [
            Offer { has_timed_waits: false, ..WHOLE },
            Offer { drops_no_completion: false, ..WHOLE },
        ] {
            let text = offer.judge(|_| true).unwrap_err().to_string();
            assert!(text.contains("needs Linux 6.1 or newer"), "{text}");
        }
    }

    #[test]
    fn kernel_without_what_is_useful_serves_and_says_what_is_done_instead() {
        let whole = WHOLE.judge(|_| true).unwrap();
        assert_eq!(whole.substitutes().count(), 0);
        let old = Offer { has_absolute_waits: false, has_no_iowait: false, ..WHOLE };
        let old = old.judge(|code| code != opcode::SendMsgZc::CODE).unwrap();
        assert_eq!(old, Features::default());
        let instead: Vec<_> = old.substitutes().collect();
        assert_eq!(instead.len(), 3);
        assert!(instead.iter().all(|instead| instead.contains("Linux 6.")), "{instead:?}");
    }
}
