//! Fuzzes `headend_fuzz::http::peer`.
//! Options: -max_len=2048 -dict=fuzz/dictionaries/dist.dict
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| headend_fuzz::http::peer(data));
