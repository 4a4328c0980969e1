//! Fuzzes `headend_fuzz::srtp::mikey`.
//! Options: -max_len=512
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| headend_fuzz::srtp::mikey(data));
