//! Fuzzes `headend_fuzz::hls::names`.
//! Options: -max_len=256
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| headend_fuzz::hls::names(data));
