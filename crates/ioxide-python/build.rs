//! Makes `cfg(Py_3_12)` and its kin known to this crate.

fn main() {
    pyo3_build_config::use_pyo3_cfgs();
}
