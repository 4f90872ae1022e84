//! Diagnoses, comparisons, conditions and explanations, all derived from snapshots.

pub mod compare;
pub(crate) mod condition;
pub(crate) mod condition_set;
pub mod diagnosis;
pub(crate) mod explain;
pub mod registries;
pub(crate) mod reliability;
