//! Fuzzes `headend_fuzz::srtp::keys`.
//! Options: -max_len=512 -dict=fuzz/dictionaries/rtsp.dict
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| headend_fuzz::srtp::keys(data));
