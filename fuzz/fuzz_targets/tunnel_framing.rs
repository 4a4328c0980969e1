//! Fuzzes `headend_fuzz::tunnel::framing`.
//! Options: -max_len=4096 -dict=fuzz/dictionaries/tunnel.dict
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| headend_fuzz::tunnel::framing(data));
