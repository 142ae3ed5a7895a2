//! Addresses as Python has them: tuples, and names of Unix sockets.

use crate::kit::{err, ffi, value, Any, Obj, PyResult};
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

/// The address that Python code means, if it is of this family and needs no lookup; never an exception.
pub(crate) fn numeric(object: &Any, family: i32) -> Option<Address> {
    let address = match family {
        libc::AF_UNIX => unix(object),
        libc::AF_INET | libc::AF_INET6 if object.is_tuple() => internet(object.tuple_items()),
        _ => None,
    }?;
    (address.family() == family).then_some(address)
}

fn unix(object: &Any) -> Option<Address> {
    let name = if object.is_bytes() {
        object.bytes_content()
    } else if object.is_str() {
        text(object)?.as_bytes()
    } else {
        return None;
    };
    match name {
        [] => None,
        [0, name @ ..] => Some(Address::UnixAbstract(name.into())),
        path => Some(Address::UnixPath(path.into())),
    }
}

fn internet(items: &[&Any]) -> Option<Address> {
    let [host, port, rest @ ..] = items else {
        return None;
    };
    if !host.is_str() {
        return None;
    }
    let port = u16::try_from(number(port)?).ok()?;
    match (Address::parse_numeric(text(host)?, port)?, rest) {
        (Address::V6(mut v6), [flow, scope @ ..]) if scope.len() < 2 => {
            v6.set_flowinfo(u32::try_from(number(flow)?).ok()?);
            if let [scope] = scope {
                v6.set_scope_id(u32::try_from(number(scope)?).ok()?);
            }
            Some(Address::V6(v6))
        }
        (address, []) => Some(address),
        _ => None,
    }
}

/// The address of a host that is a number, without a scope, and a port; never an exception.
pub(super) fn of_host(host: &Any, port: &Any) -> Option<Address> {
    if !host.is_str() {
        return None;
    }
    let host = text(host)?;
    if host.contains('%') {
        return None;
    }
    Address::parse_numeric(host, u16::try_from(number(port)?).ok()?)
}

/// What a program sees of an address that it has given itself.
pub(super) fn as_given(address: &Address, host: &Any, port: &Any) -> PyResult<Obj> {
    match address {
        Address::V6(_) => {
            let zero = value::int(0)?;
            value::tuple(&[host, port, &zero, &zero])
        }
        _ => value::tuple(&[host, port]),
    }
}

fn number(object: &Any) -> Option<i64> {
    if !object.is_int() {
        return None;
    }
    object.to_i64().map_err(err::discard).ok()
}

fn text(object: &Any) -> Option<&str> {
    object.to_str().map_err(err::discard).ok()
}
