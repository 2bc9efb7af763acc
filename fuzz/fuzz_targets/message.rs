#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| btlightning_fuzz::message(data));
