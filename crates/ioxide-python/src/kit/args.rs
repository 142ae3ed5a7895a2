//! The arguments of a vectorcall, bound to a signature as the interpreter binds them.

use super::{err, ffi, value, Any, Obj, PyResult, Raised, Raw};
use crate::raise;

/// The arguments as they came: `positional` first, then one value for each name in `keywords`.
#[derive(Clone, Copy)]
pub(crate) struct Args<'a> {
    all: &'a [&'a Any],
    positional: usize,
    names: Option<&'a Any>,
}

impl<'a> Args<'a> {
    /// # Safety
    /// As the interpreter calls a `METH_FASTCALL | METH_KEYWORDS` function.
    #[inline(always)]
    pub(crate) unsafe fn from_vectorcall(
        stack: *const Raw,
        count: ffi::Py_ssize_t,
        names: Raw,
    ) -> Args<'a> {
        // SAFETY: the stack holds `count` live objects and one more for each keyword name.
        unsafe {
            let named = if names.is_null() {
                0
            } else {
                ffi::PyTuple_GET_SIZE(names) as usize
            };
            let total = count as usize + named;
            Args {
                all: if total == 0 {
                    &[]
                } else {
                    std::slice::from_raw_parts(stack.cast::<&Any>(), total)
                },
                positional: count as usize,
                names: (named > 0).then(|| Any::from_raw(names)),
            }
        }
    }

    pub(crate) fn positional(&self) -> &'a [&'a Any] {
        &self.all[..self.positional]
    }

    pub(crate) fn has_keywords(&self) -> bool {
        self.names.is_some()
    }

    /// The keywords, in the order of the call.
    pub(crate) fn keywords(&self) -> impl Iterator<Item = (&'a Any, &'a Any)> + '_ {
        let names: &[&Any] = self.names.map_or(&[], Any::tuple_items);
        names
            .iter()
            .zip(&self.all[self.positional..])
            .map(|(name, value)| (*name, *value))
    }

    /// The keyword, where there is one and no other.
    #[inline(always)]
    pub(crate) fn sole_keyword(&self) -> Option<(&'a Any, &'a Any)> {
        match (self.names?.tuple_items(), &self.all[self.positional..]) {
            ([name], [value]) => Some((name, value)),
            _ => None,
        }
    }

    /// Hands on the arguments with the first ones, which have these names, in their positions: for functions that
    /// take any number of arguments after them.
    #[cold]
    pub(crate) fn leading<R>(
        &self,
        names: &[&str],
        f: impl FnOnce(Args<'_>) -> PyResult<R>,
    ) -> PyResult<R> {
        let mut first = self.positional().to_vec();
        let mut named = Vec::new();
        for (name, value) in self.keywords() {
            named.push((name, name.to_str()?, value));
        }
        while let Some(expected) = names.get(first.len()) {
            match named.iter().position(|(_, name, _)| name == expected) {
                Some(index) => first.push(named.remove(index).2),
                None => break,
            }
        }
        let positional = first.len();
        first.extend(named.iter().map(|(_, _, value)| *value));
        let keys: Vec<&Any> = named.iter().map(|(name, _, _)| *name).collect();
        let keys = value::tuple(&keys)?;
        f(Args {
            all: &first,
            positional,
            names: (!named.is_empty()).then_some(&*keys),
        })
    }

    /// Binds the arguments to the parameters of `signature`; what was not given is `None`.
    #[inline(always)]
    pub(crate) fn bind<const N: usize>(
        &self,
        signature: &Signature<N>,
    ) -> PyResult<[Option<&'a Any>; N]> {
        let given = self.positional();
        if self.names.is_some()
            || given.len() < signature.required
            || given.len() > signature.positional
        {
            return self.bind_named(signature);
        }
        Ok(std::array::from_fn(|index| given.get(index).copied()))
    }

    /// As [`Args::bind`], for arguments given by name and for wrong ones.
    fn bind_named<const N: usize>(
        &self,
        signature: &Signature<N>,
    ) -> PyResult<[Option<&'a Any>; N]> {
        let mut bound: [Option<&'a Any>; N] = [None; N];
        if self.positional > signature.positional {
            return Err(signature.too_many(self.positional));
        }
        for (slot, value) in bound.iter_mut().zip(self.positional()) {
            *slot = Some(value);
        }
        for (name, value) in self.keywords() {
            let text = name.to_str()?;
            match signature
                .names
                .iter()
                .position(|parameter| *parameter == text)
            {
                Some(index) if index < signature.positional_only => {
                    return Err(signature.unexpected(text))
                }
                Some(index) if bound[index].is_some() => {
                    return Err(raise!(
                        err::type_error(),
                        "{}() got multiple values for argument '{text}'",
                        signature.function
                    ))
                }
                Some(index) => bound[index] = Some(value),
                None => return Err(signature.unexpected(text)),
            }
        }
        if let Some(missing) = (0..signature.required).find(|index| bound[*index].is_none()) {
            return Err(signature.missing(missing));
        }
        Ok(bound)
    }
}

/// The parameters of a function: the first `positional` may be given by position, the first
/// `positional_only` must be, the first `required` have no default.
pub(crate) struct Signature<const N: usize> {
    pub(crate) function: &'static str,
    pub(crate) names: [&'static str; N],
    pub(crate) positional_only: usize,
    pub(crate) positional: usize,
    pub(crate) required: usize,
    /// Errors are worded as those of functions written in C, not as those of functions written in Python.
    pub(crate) told_as_in_c: bool,
}

impl<const N: usize> Signature<N> {
    /// All parameters may be given by position or by name.
    pub(crate) const fn new(
        function: &'static str,
        names: [&'static str; N],
        required: usize,
    ) -> Self {
        Signature {
            function,
            names,
            positional_only: 0,
            positional: N,
            required,
            told_as_in_c: false,
        }
    }

    /// For what CPython has in C, where errors have other words.
    pub(crate) const fn told_as_in_c(mut self) -> Self {
        self.told_as_in_c = true;
        self
    }

    /// Those after the first `positional` are keyword-only.
    pub(crate) const fn keyword_only_after(mut self, positional: usize) -> Self {
        self.positional = positional;
        self
    }

    /// The first `count` cannot be given by name.
    pub(crate) const fn positional_only(mut self, count: usize) -> Self {
        self.positional_only = count;
        self
    }

    #[cold]
    fn too_many(&self, given: usize) -> Raised {
        let plural = if self.positional == 1 { "" } else { "s" };
        if self.told_as_in_c {
            return match self.positional {
                0 => raise!(
                    err::type_error(),
                    "{}() takes no positional arguments",
                    self.function
                ),
                most => raise!(
                    err::type_error(),
                    "{}() takes {} {most} positional argument{plural} ({given} given)",
                    self.function,
                    if self.required < most {
                        "at most"
                    } else {
                        "exactly"
                    }
                ),
            };
        }
        raise!(
            err::type_error(),
            "{}() takes {} positional argument{plural} but {given} {} given",
            self.function,
            self.positional,
            if given == 1 { "was" } else { "were" }
        )
    }

    #[cold]
    fn unexpected(&self, name: &str) -> Raised {
        raise!(
            err::type_error(),
            "{}() got an unexpected keyword argument '{name}'",
            self.function
        )
    }

    #[cold]
    fn missing(&self, index: usize) -> Raised {
        if self.told_as_in_c {
            return raise!(
                err::type_error(),
                "{}() missing required argument '{}' (pos {})",
                self.function,
                self.names[index],
                index + 1
            );
        }
        let kind = if index < self.positional {
            "positional"
        } else {
            "keyword-only"
        };
        raise!(
            err::type_error(),
            "{}() missing 1 required {kind} argument: '{}'",
            self.function,
            self.names[index]
        )
    }
}

/// The arguments of `tp_new` and `tp_init`, laid out as for a vectorcall.
pub(crate) struct Unpacked {
    items: Vec<Obj>,
    positional: usize,
    names: Option<Obj>,
}

impl Unpacked {
    /// # Safety
    /// `args` is a tuple; `kwargs` is a dict with string keys, or null.
    pub(crate) unsafe fn new(args: Raw, kwargs: Raw) -> PyResult<Unpacked> {
        // SAFETY: by the caller's promise.
        let mut items: Vec<Obj> = unsafe { Any::from_raw(args) }
            .tuple_items()
            .iter()
            .map(|item| item.own())
            .collect();
        let positional = items.len();
        let mut names = None;
        // SAFETY: walking a dict while holding it, without running code in between.
        unsafe {
            if !kwargs.is_null() && ffi::PyDict_Size(kwargs) > 0 {
                let mut keys = Vec::new();
                let (mut at, mut key, mut value) = (0, std::ptr::null_mut(), std::ptr::null_mut());
                while ffi::PyDict_Next(kwargs, &mut at, &mut key, &mut value) != 0 {
                    keys.push(Any::from_raw(key));
                    items.push(Obj::from_borrowed(value));
                }
                names = Some(value::tuple(&keys)?);
            }
        }
        Ok(Unpacked {
            items,
            positional,
            names,
        })
    }

    pub(crate) fn args(&self) -> Args<'_> {
        // SAFETY: `Obj` and `&Any` are both one non-null pointer to a live object.
        let all: &[&Any] =
            unsafe { std::slice::from_raw_parts(self.items.as_ptr().cast(), self.items.len()) };
        Args {
            all,
            positional: self.positional,
            names: self.names.as_deref(),
        }
    }
}
