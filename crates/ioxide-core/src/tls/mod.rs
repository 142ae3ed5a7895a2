//! TLS without a library and without a network: which phase a connection is in, and what follows
//! from what happens. Who encrypts, and who carries the bytes, is given by traits.

pub mod engine;
pub mod machine;
