//! See `synfin_fuzz::tracker`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| synfin_fuzz::tracker::run(bytes));
