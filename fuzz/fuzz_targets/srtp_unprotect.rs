//! Fuzzes `headend_fuzz::srtp::unprotect`.
//! Options: -max_len=1024
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| headend_fuzz::srtp::unprotect(data));
