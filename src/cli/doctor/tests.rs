//! How checks are printed.

use super::*;

fn shown(checks: &[Check]) -> String {
    let mut out = Vec::new();
    print(checks, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn what_is_bad_has_its_cause_and_its_fix_below_it() {
    let cause = "every packet costs a send of its own, which is about eight times the CPU time \
                 of a run of packets";
    let checks = [
        Check::ok("kernel", "6.8.0-45-generic"),
        Check::bad(Level::Fail, "udp port", "a\u{1b}b", "other has it", "kill 42"),
        Check::bad(Level::Warn, "UDP GSO", "no", cause, "install Linux 4.18 or newer"),
        Check::bad(Level::Tip, "vm.swappiness", "60", "c", "").by_sysctl("vm.swappiness", "10"),
    ];
    insta::assert_snapshot!(shown(&checks), @r"
    ok    kernel                               6.8.0-45-generic
    FAIL  udp port                             a?b
          why  other has it
          fix  kill 42
    warn  UDP GSO                              no
          why  every packet costs a send of its own, which is about eight times the CPU time of a run of
               packets
          fix  install Linux 4.18 or newer
    tip   vm.swappiness                        60
          why  c
          fix  sudo sysctl -w vm.swappiness=10
    ");
}

#[test]
fn what_is_not_known_comes_last_and_is_grouped_by_its_reason() {
    let hidden = "not to be seen in a container; its host has it, and a sentence as long as this \
                  one goes on";
    let checks = [
        Check::skip("governor", hidden),
        Check::skip("lan0 xps", "no card"),
        Check::ok("machine", "container"),
        Check::skip("clock source", hidden),
    ];
    insta::assert_snapshot!(shown(&checks), @r"
    ok    machine                              container
    skip  governor, clock source
          why  not to be seen in a container; its host has it, and a sentence as long as this one goes
               on
    skip  lan0 xps
          why  no card
    ");
}
