//! A descriptor and who closes it.

use crate::fork;
use crate::kit::{err, ffi, value, Any, Obj, ObjCell, PyResult, Visitor};
use crate::runtime::io::descriptor;
use crate::{import, intern};
use ioxide_core::net::socket;
use std::cell::Cell;
use std::ffi::c_int;
use std::io;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd, RawFd};

/// A descriptor that belongs to one transport.
///
/// It is closed by the transport itself until there is a Python object for it (a socket, a pipe); then by that
/// object.
pub(crate) struct Descriptor {
    /// The number; -1 once it is closed.
    fd: Cell<RawFd>,
    /// The Python object that owns the descriptor, if there is one.
    object: ObjCell,
    /// Where that object keeps its number, if that is known: anything else there than `fd` says that the
    /// program has closed or detached it.
    place: Cell<*const c_int>,
    /// The count of forks when the descriptor was taken over.
    forks: u32,
}

impl Descriptor {
    /// Of a descriptor that no Python object knows.
    pub(crate) fn owned(fd: OwnedFd) -> Descriptor {
        Descriptor {
            fd: Cell::new(fd.into_raw_fd()),
            object: ObjCell::empty(),
            place: Cell::new(std::ptr::null()),
            forks: fork::forks(),
        }
    }

    /// Of a socket or pipe object, which will be closed with the transport.
    pub(crate) fn adopted(object: &Any) -> PyResult<Descriptor> {
        let fd = descriptor(object)?;
        Ok(Descriptor {
            fd: Cell::new(fd),
            object: ObjCell::new(object.own()),
            place: Cell::new(place_of_number(object, fd)?),
            forks: fork::forks(),
        })
    }

    /// The number that is watched: the one that the descriptor has or had, -1 once it is closed.
    #[inline(always)]
    pub(crate) fn number(&self) -> RawFd {
        self.fd.get()
    }

    /// Whether closing the number closes what it stands for: no program can have made another descriptor for that,
    /// and no child has been forked that would have one.
    pub(crate) fn is_sole(&self) -> bool {
        self.object.is_empty() && self.forks == fork::forks()
    }

    /// The number to read from and write to. `EBADF` if the program has closed the object.
    #[inline(always)]
    pub(crate) fn usable(&self) -> io::Result<RawFd> {
        let (fd, place) = (self.fd.get(), self.place.get());
        // SAFETY: the place is within the object, which is kept alive as long as the place is not null.
        if fd < 0 || !place.is_null() && unsafe { place.read() } != fd {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        }
        Ok(fd)
    }

    /// The socket object, which is made if need be and owns the descriptor from then on. Nothing once the
    /// descriptor is closed.
    pub(crate) fn socket(&self) -> PyResult<Option<Obj>> {
        if let Some(object) = self.object.get() {
            return Ok(Some(object));
        }
        let fd = self.fd.get();
        if fd < 0 {
            return Ok(None);
        }
        let option = |name| match socket::option(fd, libc::SOL_SOCKET, name) {
            Ok(value) => value::int(value.into()),
            Err(error) => Err(err::raise_os(&error)),
        };
        let family = option(libc::SO_DOMAIN)?;
        // That it is non-blocking is said with the kind, or the object would see to it by a system call.
        let kind = option(libc::SO_TYPE)?.to_i64()? | i64::from(libc::SOCK_NONBLOCK);
        let arguments: [&Any; 4] = [
            &family,
            &*value::int(kind)?,
            &*option(libc::SO_PROTOCOL)?,
            &*value::int(fd.into())?,
        ];
        let socket = import!("socket", "socket")?.call(&arguments)?;
        self.object.set(socket.clone());
        self.place.set(place_of_number(&socket, fd)?);
        Ok(Some(socket))
    }

    /// The file object of a pipe, which is made if need be and owns the descriptor from then on; a closed one once
    /// the descriptor is closed.
    pub(crate) fn file(&self, mode: &Any) -> PyResult<Obj> {
        if let Some(object) = self.object.get() {
            return Ok(object);
        }
        let class = import!("io", "FileIO")?;
        let fd = self.fd.get();
        let file = if fd < 0 {
            let closed = class.call(&[intern!("/dev/null"), mode])?;
            closed.method0(intern!("close"))?;
            closed
        } else {
            class.call(&[&*crate::kit::value::int(fd.into())?, mode])?
        };
        self.object.set(file.clone());
        Ok(file)
    }

    /// Closes the descriptor, once. The object, closed, stays for those who look.
    pub(crate) fn close(&self) -> PyResult<()> {
        let fd = self.fd.replace(-1);
        if fd < 0 {
            return Ok(());
        }
        match self.object.get() {
            Some(object) => object.method0(intern!("close")).map(drop),
            None => {
                // SAFETY: without an object the descriptor is ours alone, and it was open until now.
                drop(unsafe { OwnedFd::from_raw_fd(fd) });
                Ok(())
            }
        }
    }

    /// Gives the object up; it closes the descriptor if nobody has.
    pub(crate) fn clear(&self) {
        if let Some(object) = self.object.take() {
            self.fd.set(-1);
            self.place.set(std::ptr::null());
            drop(object);
        }
    }

    pub(crate) fn traverse(&self, visitor: &mut Visitor) {
        visitor.cell(&self.object);
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        let fd = self.fd.replace(-1);
        if fd >= 0 && self.object.is_empty() {
            // SAFETY: as in `close`.
            drop(unsafe { OwnedFd::from_raw_fd(fd) });
        }
    }
}

/// Where a socket object keeps its number, right behind its head; null for anything that does not.
fn place_of_number(object: &Any, fd: RawFd) -> PyResult<*const c_int> {
    if !object.is_instance(import!("_socket", "socket")?)? {
        return Ok(std::ptr::null());
    }
    // SAFETY: the body of a socket object begins with integers.
    unsafe {
        let place = object.raw().cast::<u8>().add(size_of::<ffi::PyObject>());
        let place = place.cast::<c_int>().cast_const();
        Ok(if place.read() == fd {
            place
        } else {
            std::ptr::null()
        })
    }
}
