//! The kernel function (kfunc) that a program of the kernel side calls. Its number is the BTF id of
//! the running kernel, which the compiler cannot know: the program calls a placeholder, which the
//! user side replaces before it loads the object.

/// The name of the kfunc. It gives a pointer a type; exists since 6.2 (commit a35b9af4ec2c).
pub const RDONLY_CAST: &str = "bpf_rdonly_cast";

/// The number that stands for it in the object. No helper has this number.
pub const RDONLY_CAST_PLACEHOLDER: u32 = 0x5f5f_0001;
