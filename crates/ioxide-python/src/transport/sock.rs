//! The loop's methods `sock_recv()` and its kin, which make the awaitables of [`operation`](super::operation).

use super::operation::{make, Action, Request};
use crate::kit::{err, ffi, Any, Args, Obj, PyResult, Signature};
use crate::raise;
use crate::runtime::EventLoop;

/// A size that Python code gives.
fn size(given: Option<&Any>, method: &str) -> PyResult<usize> {
    let size = given.map_or(Ok(0), Any::to_i64)?;
    usize::try_from(size).map_err(|_| raise!(err::value_error(), "negative buffersize in {method}"))
}

/// Binds `(sock, …)` and makes the operation.
macro_rules! operation {
    ($function:ident, $name:literal, [$($parameter:literal),*], $required:literal, $request:expr) => {
        fn $function(event_loop: &EventLoop, args: Args<'_>) -> PyResult<Obj> {
            const NAMES: &[&str] = &[$($parameter),*];
            const SIGNATURE: Signature<{ NAMES.len() }> =
                Signature::new($name, [$($parameter),*], $required);
            let request: fn([Option<&Any>; NAMES.len()]) -> PyResult<Request<'_>> = $request;
            make(event_loop, &request(args.bind(&SIGNATURE)?)?)
        }
    };
}

#[inline(always)]
fn request(action: Action, socket: Option<&Any>, count: usize) -> Request<'_> {
    Request {
        action,
        socket,
        data: None,
        address: None,
        count,
    }
}

operation!(recv, "sock_recv", ["sock", "n"], 2, |[sock, n]| {
    Ok(request(Action::Recv, sock, size(n, "recv")?))
});
operation!(
    recv_into,
    "sock_recv_into",
    ["sock", "buf"],
    2,
    |[sock, data]| {
        Ok(Request {
            data,
            ..request(Action::RecvInto, sock, 0)
        })
    }
);
operation!(
    recvfrom,
    "sock_recvfrom",
    ["sock", "bufsize"],
    2,
    |[sock, n]| { Ok(request(Action::RecvFrom, sock, size(n, "recvfrom")?)) }
);
operation!(
    recvfrom_into,
    "sock_recvfrom_into",
    ["sock", "buf", "nbytes"],
    2,
    |[sock, data, n]| {
        let count = match size(n, "recvfrom_into")? {
            0 => data.map_or(Ok(0), Any::len)?,
            count => count,
        };
        Ok(Request {
            data,
            ..request(Action::RecvFromInto, sock, count)
        })
    }
);
operation!(
    sendall,
    "sock_sendall",
    ["sock", "data"],
    2,
    |[sock, data]| {
        Ok(Request {
            data,
            ..request(Action::SendAll, sock, 0)
        })
    }
);
operation!(
    sendto,
    "sock_sendto",
    ["sock", "data", "address"],
    3,
    |[sock, data, address]| {
        Ok(Request {
            data,
            address,
            ..request(Action::SendTo, sock, 0)
        })
    }
);
operation!(accept_method, "sock_accept", ["sock"], 1, |[sock]| {
    Ok(request(Action::Accept, sock, 0))
});
operation!(writable, "_sock_writable", ["sock"], 1, |[sock]| {
    Ok(request(Action::Writable, sock, 0))
});

/// Which of them are coroutine functions.
pub(crate) const COROUTINES: [&str; 7] = [
    "sock_recv",
    "sock_recv_into",
    "sock_recvfrom",
    "sock_recvfrom_into",
    "sock_sendall",
    "sock_sendto",
    "sock_accept",
];

/// The loop's methods.
pub(crate) fn loop_methods() -> Vec<ffi::PyMethodDef> {
    vec![
        crate::method!(args EventLoop, "sock_recv", recv,
            "sock_recv($self, sock, n)\n--\n\n\
                Receives up to n bytes from a non-blocking socket as soon as there are any; b\"\" at the end of \
                the stream.\n\nAs of all sock_ methods: OSError if it fails, TypeError for an ssl.SSLSocket, \
                RuntimeError for a transport's socket that would have to wait, and ValueError, in debug mode, \
                for one that blocks. ValueError for a negative n."),
        crate::method!(args EventLoop, "sock_recv_into", recv_into,
            "sock_recv_into($self, sock, buf)\n--\n\n\
                Receives into a buffer as soon as there are bytes; returns how many, 0 at the end of the stream. \
                Otherwise as sock_recv()."),
        crate::method!(args EventLoop, "sock_recvfrom", recvfrom,
            "sock_recvfrom($self, sock, bufsize)\n--\n\n\
                Receives a datagram, of which bufsize bytes are kept; returns it and its sender. Otherwise as \
                sock_recv()."),
        crate::method!(args EventLoop, "sock_recvfrom_into", recvfrom_into,
            "sock_recvfrom_into($self, sock, buf, nbytes=0)\n--\n\n\
                Receives a datagram into a buffer, nbytes of it or, for 0, the default, what fits; returns how \
                many bytes and the sender. Otherwise as sock_recv()."),
        crate::method!(args EventLoop, "sock_sendall", sendall,
            "sock_sendall($self, sock, data)\n--\n\n\
                Sends all of the data; how much was sent is not known if it fails or is cancelled. Otherwise as \
                sock_recv()."),
        crate::method!(args EventLoop, "sock_sendto", sendto,
            "sock_sendto($self, sock, data, address)\n--\n\n\
                Sends a datagram to the address; returns how many bytes. Otherwise as sock_recv()."),
        crate::method!(args EventLoop, "sock_accept", accept_method,
            "sock_accept($self, sock)\n--\n\n\
                Accepts a connection of a listening socket; returns its socket, non-blocking, and the peer's \
                address. Otherwise as sock_recv()."),
        crate::method!(args EventLoop, "_sock_writable", writable,
            "Waits until the socket takes bytes, or has failed."),
    ]
}
