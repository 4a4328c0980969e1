//! Fuzzes `headend_fuzz::rtcp::write`.
//! Options: -max_len=2048
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| headend_fuzz::rtcp::write(data));
