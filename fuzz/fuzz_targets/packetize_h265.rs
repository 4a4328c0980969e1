//! Fuzzes `headend_fuzz::packetize::h265`.
//! Options: -max_len=2048
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| headend_fuzz::packetize::h265(data));
