//! Fuzzes `headend_fuzz::hls::live`.
//! Options: -max_len=16384
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| headend_fuzz::hls::live(data));
