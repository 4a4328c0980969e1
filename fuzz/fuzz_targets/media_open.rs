//! Fuzzes `headend_fuzz::media::open`.
//! Options: -max_len=32768 -dict=fuzz/dictionaries/mp4.dict
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| headend_fuzz::media::open(data));
