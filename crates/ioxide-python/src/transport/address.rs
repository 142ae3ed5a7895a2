//! Addresses as Python has them: tuples, and names of Unix sockets.

use crate::kit::{ffi, value, Obj, PyResult};
use ioxide_core::net::address::Address;

/// `(host, port)`, `(host, port, flowinfo, scope_id)`, a path, or an abstract name as bytes.
pub(crate) fn to_python(address: &Address) -> PyResult<Obj> {
    match address {
        Address::V4(v4) => value::tuple(&[
            &*value::str(&v4.ip().to_string())?,
            &*value::int(v4.port().into())?,
        ]),
        Address::V6(v6) => value::tuple(&[
            &*value::str(&v6.ip().to_string())?,
            &*value::int(v6.port().into())?,
            &*value::int(v6.flowinfo().into())?,
            &*value::int(v6.scope_id().into())?,
        ]),
        Address::UnixPath(path) => path_to_python(path),
        Address::UnixAbstract(name) => {
            let mut whole = Vec::with_capacity(name.len() + 1);
            whole.push(0);
            whole.extend_from_slice(name);
            value::bytes(&whole)
        }
        Address::Unnamed => value::str(""),
    }
}

fn path_to_python(path: &[u8]) -> PyResult<Obj> {
    // SAFETY: the bytes are copied.
    unsafe {
        Obj::steal_or_raised(ffi::PyUnicode_DecodeFSDefaultAndSize(
            path.as_ptr().cast(),
            path.len() as ffi::Py_ssize_t,
        ))
    }
}
