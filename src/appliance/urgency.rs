//! Whether shards may be `SCHED_FIFO` where they would run, and what to say about it.
//!
//! ```text
//! a CPU is left for the rest         as configured
//! every CPU has a shard              as configured, with a warning: at full load the rest waits
//!   .. and nothing limits FIFO       normal, with a warning: the machine could not be reached
//! ```
//! A shard sleeps when nothing is due, so it takes a CPU from others only while it is overloaded or
//! broken. Then it is the kernel that decides whether anyone can still log in.

use crate::config::ShardPriority;
use crate::config::cpus::{Placement, show};

/// The priority that shards get on this machine, and the sentence for the banner.
pub(super) fn decide(
    wanted: ShardPriority,
    available: &[usize],
    place: &Placement,
) -> (ShardPriority, Option<String>) {
    weigh(wanted, available, place, realtime_limit_us())
}

fn weigh(
    wanted: ShardPriority,
    available: &[usize],
    place: &Placement,
    limit_us: Option<i64>,
) -> (ShardPriority, Option<String>) {
    if wanted == ShardPriority::Normal {
        return (wanted, None);
    }
    let is_shards = |cpu: &usize| place.shards.contains(cpu);
    let has_free = available.iter().any(|cpu| !is_shards(cpu));
    let shared: Vec<usize> = place.workers.iter().copied().filter(|cpu| is_shards(cpu)).collect();
    let is_unlimited = limit_us.is_some_and(|us| us < 0);
    match (has_free, is_unlimited) {
        (true, _) if shared.is_empty() => (wanted, None),
        (true, _) => {
            let cpus = show(&shared);
            let warning = format!(
                "workers share CPU {cpus} with {wanted} shards and read nothing while those are \
                 busy; give them CPUs of their own: --workers (HE-W105)"
            );
            (wanted, Some(warning))
        }
        (false, false) => {
            let warning = format!(
                "every CPU has a {wanted} shard: at full load workers, the API and logins get what \
                 kernel.sched_rt_runtime_us leaves them, 5 % by default; leave them a CPU: \
                 --shards {} (HE-W105)",
                fewer(place)
            );
            (wanted, Some(warning))
        }
        (false, true) => {
            let warning = format!(
                "shards run with normal priority: every CPU would have a {wanted} shard, and with \
                 kernel.sched_rt_runtime_us=-1 an overloaded one could lock the machine; run: sudo \
                 sysctl -w kernel.sched_rt_runtime_us=950000, or leave a CPU: --shards {} (HE-W105)",
                fewer(place)
            );
            (ShardPriority::Normal, Some(warning))
        }
    }
}

/// What the kernel lets real-time threads have of each second; negative is all.
fn realtime_limit_us() -> Option<i64> {
    let text = std::fs::read_to_string("/proc/sys/kernel/sched_rt_runtime_us").ok()?;
    text.trim().parse().ok()
}

/// One shard less; with a single CPU there is nothing to leave.
fn fewer(place: &Placement) -> String {
    match place.shards.len() {
        0 | 1 => "N on a machine with more CPUs".to_owned(),
        count => (count - 1).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIFO: ShardPriority = ShardPriority::Fifo(10);

    fn place(shards: &[usize], workers: &[usize]) -> Placement {
        Placement { shards: shards.to_vec(), workers: workers.to_vec() }
    }

    #[test]
    fn shards_with_cpus_of_their_own_are_fifo_without_a_word() {
        let verdict = weigh(FIFO, &[0, 1, 2], &place(&[0, 1], &[2]), Some(950_000));
        assert_eq!(verdict, (FIFO, None));
        let verdict = weigh(FIFO, &[0, 1, 2], &place(&[0, 1], &[2]), Some(-1));
        assert_eq!(verdict, (FIFO, None));
    }

    #[test]
    fn normal_shards_are_never_warned_of() {
        let verdict = weigh(ShardPriority::Normal, &[0], &place(&[0], &[0]), Some(-1));
        assert_eq!(verdict, (ShardPriority::Normal, None));
    }

    #[test]
    fn workers_behind_a_fifo_shard_are_told_of() {
        let (priority, warning) = weigh(FIFO, &[0, 1, 2], &place(&[0, 1], &[1]), None);
        assert_eq!(priority, FIFO);
        insta::assert_snapshot!(warning.unwrap(), @"workers share CPU 1 with fifo:10 shards and read nothing while those are busy; give them CPUs of their own: --workers (HE-W105)");
    }

    #[test]
    fn only_cpu_is_shared_with_a_warning_while_the_kernel_keeps_a_share_of_it() {
        let (priority, warning) = weigh(FIFO, &[0], &place(&[0], &[0]), Some(950_000));
        assert_eq!(priority, FIFO);
        insta::assert_snapshot!(warning.unwrap(), @"every CPU has a fifo:10 shard: at full load workers, the API and logins get what kernel.sched_rt_runtime_us leaves them, 5 % by default; leave them a CPU: --shards N on a machine with more CPUs (HE-W105)");
    }

    #[test]
    fn only_cpus_are_not_given_away_without_limit() {
        let (priority, warning) = weigh(FIFO, &[0, 1], &place(&[0, 1], &[0]), Some(-1));
        assert_eq!(priority, ShardPriority::Normal);
        assert!(warning.unwrap().contains("--shards 1 "), "the way out is named");
    }
}
