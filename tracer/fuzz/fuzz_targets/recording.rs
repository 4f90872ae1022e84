//! See `synfin_fuzz::recording`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| synfin_fuzz::recording::run(bytes));
