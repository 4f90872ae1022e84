//! See `synfin_fuzz::render`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| synfin_fuzz::render::run(bytes));
