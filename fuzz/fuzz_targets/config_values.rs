//! Fuzzes `headend_fuzz::config::values`.
//! Options: -max_len=2048 -dict=fuzz/dictionaries/config.dict
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| headend_fuzz::config::values(data));
