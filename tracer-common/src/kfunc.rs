//! A function of the kernel's that one of our programs calls. The compiler cannot know its number
//! there: it leaves a call of a number of ours, which the user side replaces.

/// Its name: it types a pointer, since 6.2 (commit a35b9af4ec2c).
pub const CAST: &str = "bpf_rdonly_cast";

/// Our number of it, which no helper has.
pub const CAST_NUMBER: u32 = 0x5f5f_0001;
