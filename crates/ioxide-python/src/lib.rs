//! The extension module `ioxide._ioxide`: its table of contents and nothing else.

#![allow(clippy::missing_safety_doc, reason = "crate-private unsafe functions state it in prose")]

mod kit;
