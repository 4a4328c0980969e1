//! Fuzzes `headend_fuzz::store::journal`.
//! Options: -max_len=4096
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| headend_fuzz::store::journal(data));
