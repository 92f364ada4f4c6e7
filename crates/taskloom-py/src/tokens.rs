//! Tokens of arguments that only dask knows how to compare.

use pyo3::exceptions::PyException;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use taskloom_types::FunctionId;

/// dask's token of a call with arguments that are no plain data; `None` when the program does
/// not use dask, or dask cannot tell (it fails on what is nested deep): then the hash of their
/// pickles has to do.
///
/// # Errors
/// What is no `Exception`, such as `KeyboardInterrupt`.
pub(crate) fn dask_token(
    function: FunctionId,
    args: &Bound<'_, PyTuple>,
    kwargs: Option<&Bound<'_, PyDict>>,
) -> PyResult<Option<u128>> {
    let py = args.py();
    let modules = py.import(intern!(py, "sys"))?.getattr(intern!(py, "modules"))?;
    let modules = modules.cast_into::<PyDict>()?;
    let Some(module) = modules.get_item(intern!(py, "dask.base"))? else { return Ok(None) };
    // Another thread may be importing it.
    let Some(tokenize) = module.getattr_opt(intern!(py, "tokenize"))? else { return Ok(None) };
    let token: String = match tokenize.call1((function.to_string(), args, kwargs)) {
        Ok(token) => token.extract()?,
        Err(error) if error.is_instance_of::<PyException>(py) => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(u128::from_str_radix(&token, 16).ok())
}
