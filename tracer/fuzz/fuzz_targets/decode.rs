//! See `synfin_fuzz::decode`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| synfin_fuzz::decode::run(bytes));
