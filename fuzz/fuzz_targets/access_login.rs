//! Fuzzes `headend_fuzz::access::login`.
//! Options: -max_len=2048 -dict=fuzz/dictionaries/access.dict
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| headend_fuzz::access::login(data));
