//! What builds the committed eBPF objects. The manifest vouches for this file as it does for the
//! sources: change a pin, and the objects have to be built anew with `cargo xtask ebpf`.

/// The dated nightly, as rustup names it.
pub(crate) const NIGHTLY: &str = "nightly-2026-05-20";

/// What `rustc -vV` of that nightly says, so that a toolchain of another name can be it too.
pub(crate) const NIGHTLY_COMMIT: &str = "e50aa6fba4e63ab34c72bf9acfd2c307c1155d1a";

/// The version of bpf-linker.
pub(crate) const BPF_LINKER: &str = "0.10.3";

/// Little-endian BPF, which is what x86_64 and arm64 run.
pub(crate) const TARGET: &str = "bpfel-unknown-none";

/// Flags for every crate of the object. No debug information, hence no BTF: the programs read
/// kernel structs through offsets that the loader resolves, so one object serves every machine.
pub(crate) const RUSTFLAGS: &[&str] = &[
    // Left out, aya-ebpf takes the building machine's, and the object would depend on it.
    r#"--cfg=bpf_target_arch="x86_64""#,
    "-Cdebuginfo=0",
];
