//! How urgent the shards' threads are to the kernel.
//!
//! ```text
//! normal    as any program            fifo:20   SCHED_FIFO, priority 20
//! fifo      the same with priority 10
//! ```

use std::fmt;

use super::value_error::ValueError;

/// Scheduling priority of the shards' threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ShardPriority {
    /// The kernel shares the CPU out fairly.
    #[default]
    Normal,
    /// `SCHED_FIFO`: a shard with something to do runs before every normal thread of its CPU.
    Fifo(u8),
}

impl ShardPriority {
    /// Reads what a person wrote.
    ///
    /// # Errors
    /// Another word, or a priority that shards should not have.
    pub fn parse(text: &str) -> Result<Self, ValueError> {
        let wrong = || ValueError::Choice { text: text.to_owned(), choices: CHOICES };
        match text.trim().split_once(':') {
            None if text.trim() == "normal" => Ok(Self::Normal),
            None if text.trim() == "fifo" => Ok(Self::Fifo(FIFO_DEFAULT)),
            Some(("fifo", number)) => {
                let is_digits = number.bytes().all(|byte| byte.is_ascii_digit());
                let value: u64 = number.parse().ok().filter(|_| is_digits).ok_or_else(wrong)?;
                let fits = u8::try_from(value).ok().filter(|value| FIFO_RANGE.contains(value));
                let (min, max) = (u64::from(*FIFO_RANGE.start()), u64::from(*FIFO_RANGE.end()));
                fits.map(Self::Fifo).ok_or(ValueError::Range { value, min, max })
            }
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for ShardPriority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Normal => f.write_str("normal"),
            Self::Fifo(priority) => write!(f, "fifo:{priority}"),
        }
    }
}

const CHOICES: &[&str] = &["normal", "fifo", "fifo:1 to fifo:98"];

/// Above every normal thread, and below the interrupt threads of the kernel, which have 50: those
/// bring what a shard waits for.
const FIFO_DEFAULT: u8 = 10;

/// What `SCHED_FIFO` knows, but for 99: the kernel's own watchdogs and CPU stoppers have that.
const FIFO_RANGE: std::ops::RangeInclusive<u8> = 1..=98;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fifo_without_a_number_is_below_the_interrupt_threads() {
        assert_eq!(ShardPriority::parse("fifo"), Ok(ShardPriority::Fifo(10)));
        assert_eq!(ShardPriority::parse(" normal "), Ok(ShardPriority::Normal));
        assert_eq!(ShardPriority::parse("fifo:98"), Ok(ShardPriority::Fifo(98)));
    }

    #[test]
    fn wrong_words_and_the_watchdogs_priority_are_refused() {
        let texts = ["", "rr", "fifo:", "fifo:0", "fifo:99", "fifo:+1", "fifo:300", "normal:1"];
        let errors: Vec<_> =
            texts.iter().map(|text| ShardPriority::parse(text).unwrap_err().to_string()).collect();
        insta::assert_snapshot!(errors.join("\n"), @r"
        `` is not one of normal, fifo, fifo:1 to fifo:98
        `rr` is not one of normal, fifo, fifo:1 to fifo:98
        `fifo:` is not one of normal, fifo, fifo:1 to fifo:98
        0 is not in 1 to 98
        99 is not in 1 to 98
        `fifo:+1` is not one of normal, fifo, fifo:1 to fifo:98
        300 is not in 1 to 98
        `normal:1` is not one of normal, fifo, fifo:1 to fifo:98
        ");
    }

    proptest! {
        #[test]
        fn shown_priorities_read_back(priority in 1u8..=98) {
            let fifo = ShardPriority::Fifo(priority);
            prop_assert_eq!(ShardPriority::parse(&fifo.to_string()), Ok(fifo));
        }

        #[test]
        fn any_text_is_read_or_refused_without_panic(text in "\\PC{0,12}|fifo:\\PC{0,8}") {
            let _ = ShardPriority::parse(&text);
        }
    }
}
