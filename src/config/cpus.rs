//! Which CPUs a pool of threads takes.
//!
//! ```text
//! auto     as many as make sense      4      four, chosen by us
//! 0-3,8    exactly these              cpu:1  exactly this one ("1" alone is a count)
//! ```
//! Bound: `CPUS_MAX` threads, because a shard's number has eight bits.

use std::fmt;

/// CPUs of a pool of threads.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum CpuList {
    /// The appliance chooses.
    #[default]
    Auto,
    /// So many threads; the appliance chooses the CPUs.
    Count(usize),
    /// One thread on each of these CPUs, in this order.
    Cpus(Vec<usize>),
}

/// Why a CPU list is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CpuListError {
    /// Not the grammar.
    #[error("`{text}` is not `auto`, a count like `4`, or CPUs like `0-3,8` or `cpu:1`")]
    Syntax {
        /// What was found.
        text: String,
    },
    /// None, or more than there can be.
    #[error("{found} threads asked for; 1 to {CPUS_MAX} can be had")]
    Count {
        /// How many were asked for.
        found: usize,
    },
    /// `3-1`.
    #[error("the range {first}-{last} runs backwards")]
    Backwards {
        /// Left of the dash.
        first: usize,
        /// Right of it.
        last: usize,
    },
    /// Two threads pinned to one CPU would wait for each other.
    #[error("CPU {cpu} is named twice")]
    Twice {
        /// Which.
        cpu: usize,
    },
    /// The kernel knows no such number.
    #[error("CPU {cpu} is not below {CPU_NUMBERS}")]
    TooHigh {
        /// Which.
        cpu: usize,
    },
    /// The machine has no such CPU, or this process may not use it.
    #[error("CPU {cpu} is not available to this process; it may use {}", show(available))]
    Unavailable {
        /// Which.
        cpu: usize,
        /// What there is.
        available: Vec<usize>,
    },
}

impl CpuList {
    /// Reads what a person wrote.
    ///
    /// # Errors
    /// See [`CpuListError`].
    pub fn parse(text: &str) -> Result<Self, CpuListError> {
        let text = text.trim();
        let syntax = || CpuListError::Syntax { text: text.to_owned() };
        if text == "auto" {
            return Ok(Self::Auto);
        }
        if let Some(count) = number(text) {
            return match count {
                1..=CPUS_MAX => Ok(Self::Count(count)),
                found => Err(CpuListError::Count { found }),
            };
        }
        let mut cpus = Vec::new();
        for part in text.strip_prefix("cpu:").unwrap_or(text).split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let first = number(first).ok_or_else(syntax)?;
            let last = number(last).ok_or_else(syntax)?;
            if first > last {
                return Err(CpuListError::Backwards { first, last });
            }
            if last >= CPU_NUMBERS {
                return Err(CpuListError::TooHigh { cpu: last });
            }
            for cpu in first..=last {
                if cpus.contains(&cpu) {
                    return Err(CpuListError::Twice { cpu });
                }
                cpus.push(cpu);
            }
        }
        match cpus.len() {
            1..=CPUS_MAX => Ok(Self::Cpus(cpus)),
            found => Err(CpuListError::Count { found }),
        }
    }

    /// The CPU of each thread. `available` is what the process may use, `auto` how many threads
    /// there are by default. More threads than CPUs share CPUs in turn.
    ///
    /// # Errors
    /// A CPU that is not available.
    pub fn resolve(&self, available: &[usize], auto: usize) -> Result<Vec<usize>, CpuListError> {
        let in_turn = |count: usize| available.iter().copied().cycle().take(count).collect();
        match self {
            Self::Auto => Ok(in_turn(auto.clamp(1, CPUS_MAX))),
            Self::Count(count) => Ok(in_turn(*count)),
            Self::Cpus(cpus) => match cpus.iter().find(|cpu| !available.contains(cpu)) {
                Some(cpu) => {
                    Err(CpuListError::Unavailable { cpu: *cpu, available: available.to_vec() })
                }
                None => Ok(cpus.clone()),
            },
        }
    }
}

/// Which CPU each thread is pinned to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Placement {
    /// Of each shard.
    pub shards: Vec<usize>,
    /// Of each worker.
    pub workers: Vec<usize>,
}

impl Placement {
    /// A quarter of the CPUs for workers, at least one, and the others for at most `shards_max`
    /// shards, unless the lists say otherwise. Workers get CPUs that shards leave free, as far as
    /// there are any.
    ///
    /// # Errors
    /// A CPU that is not available.
    pub fn choose(
        shards: &CpuList,
        workers: &CpuList,
        available: &[usize],
        shards_max: usize,
    ) -> Result<Self, CpuListError> {
        let count = available.len().max(1);
        let worker_count = (count / 4).max(1);
        let shard_count = count.saturating_sub(worker_count).clamp(1, shards_max);
        let shards = shards.resolve(available, shard_count)?;
        let free: Vec<usize> =
            available.iter().copied().filter(|cpu| !shards.contains(cpu)).collect();
        let pool = if free.is_empty() { available } else { &free };
        let workers = workers
            .resolve(pool, worker_count)
            .or_else(|_| workers.resolve(available, worker_count))?;
        Ok(Self { shards, workers })
    }
}

impl fmt::Display for CpuList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Count(count) => write!(f, "{count}"),
            Self::Cpus(cpus) => match cpus.as_slice() {
                [one] => write!(f, "cpu:{one}"),
                _ => f.write_str(&show(cpus)),
            },
        }
    }
}

/// `[0, 1, 2, 8]` -> `0-2,8`.
#[must_use]
pub fn show(cpus: &[usize]) -> String {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for cpu in cpus {
        match runs.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(*cpu) => *last = *cpu,
            _ => runs.push((*cpu, *cpu)),
        }
    }
    let shown = runs.iter().map(|(first, last)| match last - first {
        0 => first.to_string(),
        _ => format!("{first}-{last}"),
    });
    shown.collect::<Vec<_>>().join(",")
}

/// Digits only: `parse` would take a sign.
fn number(text: &str) -> Option<usize> {
    let text = text.trim();
    let is_digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_digits.then(|| text.parse().ok()).flatten()
}

/// Threads of one pool at most: a shard's number is a byte.
pub const CPUS_MAX: usize = 255;

/// CPU numbers end below this on any kernel that is built today (`NR_CPUS`).
const CPU_NUMBERS: usize = 8_192;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bare_number_is_a_count_and_everything_else_names_cpus() {
        let cases = [
            ("auto", CpuList::Auto),
            ("2", CpuList::Count(2)),
            ("cpu:2", CpuList::Cpus(vec![2])),
            ("0-3", CpuList::Cpus(vec![0, 1, 2, 3])),
            ("0,2", CpuList::Cpus(vec![0, 2])),
            ("0-1, 8", CpuList::Cpus(vec![0, 1, 8])),
            ("cpu:4-5", CpuList::Cpus(vec![4, 5])),
        ];
        for (text, list) in cases {
            assert_eq!(CpuList::parse(text), Ok(list), "{text}");
        }
    }

    #[test]
    fn wrong_lists_are_refused_by_name() {
        let texts =
            ["", "0", "256", "3-1", "0,0", "0-2,1", "a", "-1", "1-", "cpu:", "0-9000", "+1"];
        let errors: Vec<_> =
            texts.iter().map(|text| CpuList::parse(text).unwrap_err().to_string()).collect();
        insta::assert_snapshot!(errors.join("\n"), @r"
        `` is not `auto`, a count like `4`, or CPUs like `0-3,8` or `cpu:1`
        0 threads asked for; 1 to 255 can be had
        256 threads asked for; 1 to 255 can be had
        the range 3-1 runs backwards
        CPU 0 is named twice
        CPU 1 is named twice
        `a` is not `auto`, a count like `4`, or CPUs like `0-3,8` or `cpu:1`
        `-1` is not `auto`, a count like `4`, or CPUs like `0-3,8` or `cpu:1`
        `1-` is not `auto`, a count like `4`, or CPUs like `0-3,8` or `cpu:1`
        `cpu:` is not `auto`, a count like `4`, or CPUs like `0-3,8` or `cpu:1`
        CPU 9000 is not below 8192
        `+1` is not `auto`, a count like `4`, or CPUs like `0-3,8` or `cpu:1`
        ");
    }

    #[test]
    fn threads_beyond_the_cpus_share_them_in_turn() {
        assert_eq!(CpuList::Count(3).resolve(&[0, 4], 1), Ok(vec![0, 4, 0]));
        assert_eq!(CpuList::Auto.resolve(&[0, 4], 1), Ok(vec![0]));
    }

    #[test]
    fn workers_get_cpus_that_shards_leave_free() {
        let choose = |shards: &str, workers: &str, available: &[usize]| {
            let lists = (CpuList::parse(shards).unwrap(), CpuList::parse(workers).unwrap());
            let place = Placement::choose(&lists.0, &lists.1, available, 254).unwrap();
            (place.shards, place.workers)
        };
        assert_eq!(choose("auto", "auto", &[0, 1, 2, 3]), (vec![0, 1, 2], vec![3]));
        assert_eq!(choose("2-3", "1", &[0, 1, 2, 3]), (vec![2, 3], vec![0]));
        assert_eq!(choose("auto", "auto", &[5]), (vec![5], vec![5]));
        assert_eq!(choose("0-1", "cpu:1", &[0, 1]), (vec![0, 1], vec![1]), "as told");
    }

    #[test]
    fn cpu_outside_of_the_affinity_mask_is_refused() {
        let error = CpuList::Cpus(vec![1, 9]).resolve(&[0, 1, 2, 3, 6], 1).unwrap_err();
        insta::assert_snapshot!(error, @r"CPU 9 is not available to this process; it may use 0-3,6");
    }

    proptest! {
        #[test]
        fn shown_lists_read_back(cpus in prop::collection::btree_set(0usize..300, 1..200)) {
            let list = CpuList::Cpus(cpus.into_iter().collect());
            prop_assert_eq!(CpuList::parse(&list.to_string()), Ok(list));
        }

        #[test]
        fn any_text_is_read_or_refused_without_panic(text in "[0-9,:\\-cpu ]{0,24}") {
            let _ = CpuList::parse(&text);
        }
    }
}
