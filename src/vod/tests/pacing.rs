//! Pacing: never early, at most a slot late, in order, at every scale and speed.

use std::time::Duration;

use proptest::prelude::*;

use crate::base::wheel::SLOT_NS;
use crate::vod::tests::Bench;

/// Scale, speed and start within what is served.
fn wishes() -> impl Strategy<Value = (f64, f64, u32)> {
    let scales = prop_oneof![0.0625_f64..=2.0, 2.01_f64..16.0, -16.0_f64..-0.0625];
    (scales, 0.1_f64..4.0, 0_u32..19_000)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn frames_are_never_early_and_come_in_order((scale, speed, start_ms) in wishes()) {
        let mut bench = Bench::new();
        let id = bench.opened();
        let (scale_text, speed_text) = (format!("{scale:.4}"), format!("{speed:.4}"));
        let range = format!("npt={}.{:03}-", start_ms / 1_000, start_ms % 1_000);
        let headers =
            [("Range", &*range), ("Scale", &*scale_text), ("Speed", &*speed_text)];
        let began = bench.sessions.cx.now;
        bench.play(id, &headers).unwrap();
        bench.run_for(Duration::from_secs(3));
        for sent in &bench.sent {
            prop_assert!(sent.at >= sent.due_at, "early: {sent:?}");
            prop_assert!(sent.at >= began, "before the answer: {sent:?}");
        }
        for track in 0..2 {
            let sent = bench.sent_of(track);
            for pair in sent.windows(2) {
                prop_assert!(pair[1].due_at >= pair[0].due_at, "{pair:?}");
                let seq = pair[0].first_seq.wrapping_add(pair[0].packets);
                prop_assert_eq!(pair[1].first_seq, seq);
            }
            // At rates that a frame a slot can follow, none is more than the turns behind it late.
            if scale.abs() * speed <= 2.0 {
                for sent in sent.iter().filter(|sent| sent.due_at > began) {
                    let late = sent.at.since(sent.due_at).as_nanos();
                    prop_assert!(late <= u128::from(SLOT_NS) * 2, "{late} ns late: {sent:?}");
                }
            }
        }
    }
}
