//! Fuzzes `headend_fuzz::rtsp::reader`.
//! Options: -max_len=8192 -dict=fuzz/dictionaries/rtsp.dict
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| headend_fuzz::rtsp::reader(data));
