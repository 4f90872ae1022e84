//! What the figures mean: findings, comparisons, conditions and explanations, all made of snapshots.

pub mod compare;
pub(crate) mod conditions;
pub mod diagnose;
pub(crate) mod explain;
pub mod registries;
