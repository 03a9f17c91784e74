//! Kernel half.
