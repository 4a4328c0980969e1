//! Fuzzes `headend_fuzz::rtp::cut`.
//! Options: -max_len=8192
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| headend_fuzz::rtp::cut(data));
