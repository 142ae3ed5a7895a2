//! Finding arguments that were given twice.

use crate::awaitable;
use crate::future::FutureView;
use crate::kit::{ffi, value, Any, Obj, PyResult};

/// Up to so many arguments are compared one by one.
const FEW: usize = 12;

/// Says of each argument in turn whether an equal one came before it.
///
/// Futures and coroutines are equal only to themselves, so their addresses decide; anything else is asked, by a
/// dict.
pub(crate) struct Distinct<'a> {
    arguments: &'a [&'a Any],
    /// Open addressing: an index plus one, or zero.
    table: Vec<u32>,
    others: Option<Obj>,
}

impl<'a> Distinct<'a> {
    pub(crate) fn among(arguments: &'a [&'a Any]) -> Distinct<'a> {
        let slots = if arguments.len() > FEW {
            (arguments.len() * 2).next_power_of_two()
        } else {
            0
        };
        Distinct {
            arguments,
            table: vec![0; slots],
            others: None,
        }
    }

    /// The index of an equal argument before the one at `index`. To be asked in order, once for each.
    #[inline]
    pub(crate) fn earlier(&mut self, index: usize) -> PyResult<Option<usize>> {
        let argument = self.arguments[index];
        if !is_equal_to_itself_only(argument) {
            return self.earlier_by_value(index);
        }
        if self.table.is_empty() {
            let before = &self.arguments[..index];
            return Ok(before.iter().position(|other| other.is(argument)));
        }
        Ok(self.earlier_by_address(index))
    }

    fn earlier_by_address(&mut self, index: usize) -> Option<usize> {
        let argument = self.arguments[index];
        let mask = self.table.len() - 1;
        let mut slot = hash(argument) & mask;
        loop {
            match self.table[slot] as usize {
                0 => {
                    self.table[slot] = index as u32 + 1;
                    return None;
                }
                found if self.arguments[found - 1].is(argument) => return Some(found - 1),
                _ => slot = (slot + 1) & mask,
            }
        }
    }

    fn earlier_by_value(&mut self, index: usize) -> PyResult<Option<usize>> {
        let others = match &self.others {
            Some(others) => others.clone(),
            None => self.others.insert(value::dict()?).clone(),
        };
        let argument = self.arguments[index];
        if let Some(found) = others.dict_get(argument)? {
            return Ok(Some(found.to_i64()? as usize));
        }
        others.dict_set(argument, &*value::int(index as i64)?)?;
        Ok(None)
    }
}

/// Spreads addresses, whose low bits are all alike.
#[inline]
fn hash(object: &Any) -> usize {
    let address = object.raw() as usize >> 4;
    address.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20
}

#[inline]
fn is_equal_to_itself_only(object: &Any) -> bool {
    FutureView::exact(object).is_some()
        // SAFETY: alive.
        || unsafe { ffi::PyCoro_CheckExact(object.raw()) != 0 }
        || awaitable::is_native(object)
}
