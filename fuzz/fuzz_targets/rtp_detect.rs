//! Fuzzes `headend_fuzz::rtp::detect`.
//! Options: -max_len=2048
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| headend_fuzz::rtp::detect(data));
