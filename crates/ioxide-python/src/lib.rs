//! The extension module `ioxide._ioxide`.
