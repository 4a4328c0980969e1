//! Fuzzes `headend_fuzz::rtsp::range`.
//! Options: -max_len=2048 -dict=fuzz/dictionaries/rtsp.dict
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| headend_fuzz::rtsp::range(data));
