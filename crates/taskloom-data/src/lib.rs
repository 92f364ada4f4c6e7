//! Memory for values, without network and without Python.
//!
//! - [`shared`]: segments of memory that processes of one host map instead of copying.

pub mod shared;
