//! Task factories whose tasks begin at once.

#[cfg(Py_3_12)]
use crate::import;
use crate::kit::class::WeakList;
use crate::kit::{
    args::Unpacked, err, ffi, value, Any, Args, Class, ClassSpec, Head, Native, Obj, ObjCell,
    PyResult, Raw, Signature, Visitor,
};
use crate::task::Task;
use crate::{intern, kit, raise};
use std::ffi::c_void;
use std::mem::offset_of;

/// What `create_eager_task_factory(constructor)` returns: `factory(loop, coro, *, eager_start=True, **kwargs)`.
#[repr(C)]
pub(crate) struct EagerTaskFactory {
    head: Head,
    constructor: ObjCell,
    dict: ObjCell,
    weak: WeakList,
}

static CLASS: Class = Class::new();

// SAFETY: `repr(C)`, begins with `Head`, and the class is built from it below.
unsafe impl Native for EagerTaskFactory {
    type Extra = ();

    fn class() -> &'static Class {
        &CLASS
    }

    fn traverse(&self, visitor: &mut Visitor) {
        visitor.cell(&self.constructor);
    }

    fn clear(&self) {
        self.constructor.clear();
    }
}

impl EagerTaskFactory {
    /// Whether it makes our own tasks, for which nobody needs to be called.
    #[inline]
    pub(crate) fn makes_native_tasks(&self) -> bool {
        self.constructor.holds(Task::class().object())
    }

    /// The code of asyncio's own factories, by which libraries recognise one.
    #[cfg(Py_3_12)]
    fn code(&self) -> PyResult<Obj> {
        asyncio_factory()?.attr(intern!("__code__"))
    }

    /// As that of asyncio's own factories: one cell, with the constructor.
    #[cfg(Py_3_12)]
    fn closure(&self) -> PyResult<Obj> {
        let cell = import!("types", "CellType")?.call1(&self.constructor.get_or_none())?;
        value::tuple(&[&*cell])
    }

    fn call(&self, args: Args<'_>) -> PyResult<Obj> {
        let keywords = value::dict()?;
        keywords.dict_set(intern!("eager_start"), &value::bool(true))?;
        for (name, value) in args.keywords() {
            keywords.dict_set(name, value)?;
        }
        let [event_loop, coro] = args.positional() else {
            return Err(raise!(
                err::type_error(),
                "factory() takes 2 positional arguments but {} were given",
                args.positional().len()
            ));
        };
        keywords.dict_set(intern!("loop"), event_loop)?;
        self.constructor.get_or_none().call_dict(&[coro], &keywords)
    }
}

unsafe extern "C" fn tp_call(object: Raw, args: Raw, kwargs: Raw) -> Raw {
    kit::class::guard(|| {
        // SAFETY: as the interpreter calls it: an instance, a tuple, a dict or null.
        unsafe {
            let unpacked = Unpacked::new(args, kwargs)?;
            Any::from_raw(object)
                .cast_unchecked::<EagerTaskFactory>()
                .call(unpacked.args())
        }
    })
}

/// `create_eager_task_factory(custom_task_constructor)`.
pub(crate) fn create_eager_task_factory(args: Args<'_>) -> PyResult<Obj> {
    const SIGNATURE: Signature<1> =
        Signature::new("create_eager_task_factory", ["custom_task_constructor"], 1);
    let [constructor] = args.bind(&SIGNATURE)?;
    let body = EagerTaskFactory {
        head: Head::new(),
        constructor: ObjCell::empty(),
        dict: ObjCell::empty(),
        weak: WeakList::new(),
    };
    drop(body.constructor.replace(constructor.map(Any::own)));
    Ok(body.make()?.into_obj())
}

/// asyncio's own factory: what it was when this was first called, which is before `install()`.
#[cfg(Py_3_12)]
fn asyncio_factory() -> PyResult<&'static Any> {
    import!("asyncio.tasks", "eager_task_factory")
}

pub(crate) fn build() -> PyResult<()> {
    let spec = ClassSpec::new::<EagerTaskFactory>(c"ioxide.EagerTaskFactory")
        .doc(c"A task factory whose tasks begin at once.")
        .dict(offset_of!(EagerTaskFactory, dict))
        .weak(offset_of!(EagerTaskFactory, weak))
        .slot(ffi::Py_tp_call, tp_call as *mut c_void);
    #[cfg(Py_3_12)]
    let spec = {
        asyncio_factory()?;
        spec.getset([
            crate::getter!(
                EagerTaskFactory,
                "__code__",
                EagerTaskFactory::code,
                "That of asyncio's factories."
            ),
            crate::getter!(
                EagerTaskFactory,
                "__closure__",
                EagerTaskFactory::closure,
                "A cell with the constructor."
            ),
        ])
    };
    spec.build(&CLASS)?;
    Ok(())
}
