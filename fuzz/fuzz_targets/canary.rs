//! Fuzzes `headend_fuzz::canary::canary`.
//! Options: -max_len=2048
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| headend_fuzz::canary::canary(data));
