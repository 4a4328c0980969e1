//! Fuzzes `headend_fuzz::dist::relay`.
//! Options: -max_len=4096 -dict=fuzz/dictionaries/dist.dict
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| headend_fuzz::dist::relay(data));
