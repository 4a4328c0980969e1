//! Fuzzes `headend_fuzz::config::file`.
//! Options: -max_len=8192 -dict=fuzz/dictionaries/config.dict
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| headend_fuzz::config::file(data));
