//! Fuzzes `headend_fuzz::rtcp::clock`.
//! Options: -max_len=2048
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| headend_fuzz::rtcp::clock(data));
