//! Fuzzes `headend_fuzz::depacketize::depacketize`.
//! Options: -max_len=8192
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| headend_fuzz::depacketize::depacketize(data));
