//! Fuzzes `headend_fuzz::wire::wire`.
//! Options: -max_len=4096 -dict=fuzz/dictionaries/dist.dict
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| headend_fuzz::wire::wire(data));
