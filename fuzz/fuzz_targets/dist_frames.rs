//! Fuzzes `headend_fuzz::dist::frames`.
//! Options: -max_len=70000
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| headend_fuzz::dist::frames(data));
