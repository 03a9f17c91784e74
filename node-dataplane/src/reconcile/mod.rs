//! Compares what is desired with what the kernel has, and writes the difference.

pub mod ops;
